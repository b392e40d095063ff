"""Whoever means harm gets an answer in time, and harms nobody: 200, or an error that says what is wrong."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
import requests

from tests.support import hostile
from tests.support.served import Call, Model, check, document, encoded, error, sample

PIXELS = sample(41)
PICTURE = encoded(PIXELS)
BASE64 = base64.b64encode(PICTURE).decode()
VALID = hostile.valid()
JSON = {"Content-Type": "application/json"}

# Decoding may take ten; the machine may be busy.
PATIENCE = 20


@pytest.fixture(scope="module", autouse=True)
def _harmless(squash: Model) -> Iterator[None]:
    """The worker lives on, and answers as before."""
    (before,) = squash.server.worker_pids(squash.name)
    yield
    assert squash.server.worker_pids(squash.name) == [before]
    check(squash.ask(PICTURE), squash, PIXELS)


def answer(send: Callable[[], requests.Response], expected: hostile.Hostile) -> None:
    """Sends, and checks status, form and time of what comes back."""
    start = time.monotonic()
    response = send()
    assert time.monotonic() - start < PATIENCE
    assert response.status_code in expected.statuses, response.text[:500]
    if response.status_code == 200:
        assert len(document(response)["predictions"]) == 5
    else:
        code, message = error(response, response.status_code)
        assert code == expected.code or expected.code is None
        check_message(message)


def check_message(message: str) -> None:
    assert 0 < len(message) < 600
    assert not hostile.LEAK.search(message), message


# ----------------------------------------------------------------------------- pictures


def as_json(data: bytes) -> Call:
    return Call(document={"image": base64.b64encode(data).decode()})


def as_v1(data: bytes) -> Call:
    return Call(document={"instances": [{"image": {"b64": base64.b64encode(data).decode()}}]})


DOORS: dict[str, Callable[[bytes], Call]] = {"raw": Call, "form": lambda data: Call(data, form={}), "json": as_json}


@pytest.mark.parametrize("kind", VALID)
def test_truncated(kind: str, squash: Model) -> None:
    expected = hostile.Hostile(bytes, frozenset({200, 400}))
    for data in hostile.truncated(VALID[kind]):
        answer(lambda data=data: squash.post(Call(data)), expected)  # type: ignore[misc]


@pytest.mark.parametrize("kind", VALID)
def test_flipped(kind: str, squash: Model) -> None:
    for seed in range(8):
        data = hostile.flipped(VALID[kind], seed)
        answer(lambda data=data: squash.post(Call(data)), hostile.survived(bytes))  # type: ignore[misc]


@pytest.mark.parametrize("name", hostile.CORPUS)
def test_hostile_picture(name: str, squash: Model) -> None:
    entry = hostile.CORPUS[name]
    data = entry.make()
    # Each door where it is quick; all of them decode in the same place.
    doors = DOORS if len(data) < 100_000 and not name.endswith("full") else {"raw": DOORS["raw"]}
    for door in doors.values():
        answer(lambda door=door: squash.post(door(data)), entry)  # type: ignore[misc]


@pytest.mark.parametrize(
    "filename", ["picture.exe", "../../../../etc/passwd", "a" * 5000 + ".jpg", "\u202egpj.exe", "%00.png", ""]
)
@pytest.mark.parametrize("kind", ["jpeg", "gif animated"])
def test_the_extension_and_type_of_a_file_do_not_matter(kind: str, filename: str, squash: Model) -> None:
    part = "form-data; name=data; filename*=UTF-8''" + requests.utils.quote(filename)
    body = (
        f"--x\r\nContent-Disposition: {part}\r\nContent-Type: video/mp4\r\n\r\n".encode()
        + VALID[kind]
        + b"\r\n--x--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer(lambda: squash.post(Call(body, headers)), hostile.answered(bytes))


@pytest.mark.parametrize("route", ["v1", "v2"])
@pytest.mark.parametrize("name", ["png 2^31 - 1", "jpeg more scans", "zip", "svg of entities", "1 × 1"])
def test_hostile_picture_among_good_ones(name: str, route: str, squash: Model) -> None:
    entry = hostile.CORPUS[name]
    bad = base64.b64encode(entry.make()).decode()
    if route == "v1":
        url, body = f"/v1/models/{squash.name}:predict", {"instances": [BASE64, bad]}
    else:
        tensor = {"name": "image", "shape": [2], "datatype": "BYTES", "data": [BASE64, bad]}
        url, body = f"/v2/models/{squash.name}/infer", {"inputs": [tensor]}

    response = post(squash, url, json.dumps(body).encode(), JSON)

    assert response.status_code == 200
    if route == "v1":
        good, other = response.json()["predictions"]
        check(good, squash, PIXELS)
        refusal = other.get("error")
    else:
        outputs = {output["name"]: output["data"] for output in response.json()["outputs"]}
        refusals = outputs.get("error", ["", ""])
        assert refusals[0] == ""
        refusal = json.loads(refusals[1])["error"] if refusals[1] else None
    assert (refusal and refusal["code"]) == entry.code
    if refusal:
        check_message(refusal["message"])


def post(model: Model, path: str, body: bytes, headers: dict[str, str]) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.post(model.server.inference_url + path, data=body, headers=headers, timeout=60)


# ----------------------------------------------------------------------------- JSON

TENSOR = json.dumps({"name": "image", "datatype": "BYTES", "shape": [1], "data": [BASE64]})
NEST = "[" * 900 + "]" * 900
DOCUMENTS: dict[str, tuple[str, hostile.Hostile]] = {
    "duplicate keys": (f'{{"image": "AAAA", "image": "{BASE64}", "topk": 0, "topk": 5}}', hostile.answered(bytes)),
    "blanks in base64": (
        json.dumps({"image": " \n".join(BASE64[i : i + 76] for i in range(0, len(BASE64), 76))}),
        hostile.answered(bytes),
    ),
    "data url": (f'{{"image": "data:image/jpeg;base64,{BASE64}"}}', hostile.answered(bytes)),
    "data url of another kind": (f'{{"image": "data:text/html;charset=x;base64,{BASE64}"}}', hostile.answered(bytes)),
    "url-safe base64": ('{"image": "iVBORw0KGgo_-_-_"}', hostile.refused(bytes, 400, "invalid_request")),
    "wrong padding": (f'{{"image": "{BASE64.rstrip("=")}A"}}', hostile.refused(bytes, 400, "invalid_request")),
    "much padding": ('{"image": "' + "=" * 100_000 + '"}', hostile.refused(bytes, 400, "invalid_request")),
    "nul in base64": ('{"image": "iVBO\\u0000Rw0K"}', hostile.refused(bytes, 400, "invalid_request")),
    "NaN": ('{"image": NaN}', hostile.refused(bytes, 400, "invalid_request")),
    "Infinity": (f'{{"image": "{BASE64}", "topk": -Infinity}}', hostile.refused(bytes, 400, "invalid_option")),
    "NaN alone": ("NaN", hostile.refused(bytes, 400, "invalid_request")),
    "deep list": (NEST, hostile.refused(bytes, 400, "invalid_request")),
    "deep picture": (f'{{"image": {NEST}}}', hostile.refused(bytes, 400, "invalid_request")),
    "deep option": (f'{{"image": "{BASE64}", "targets": {NEST}}}', hostile.refused(bytes, 400, "invalid_option")),
    "deep output": (
        f'{{"inputs": [{TENSOR}], "outputs": [{{"name": {NEST}}}]}}',
        hostile.refused(bytes, 400, "invalid_request"),
    ),
    "deep object": ('{"image":' * 900 + "1" + "}" * 900, hostile.refused(bytes, 400, "invalid_request")),
    "a million members": (
        json.dumps(dict.fromkeys(map(str, range(1_000_000)))),
        hostile.refused(bytes, 400, "invalid_request"),
    ),
    "a million options": (
        json.dumps({"image": "", **dict.fromkeys(map(str, range(1_000_000)))}),
        hostile.refused(bytes, 400, "invalid_option"),
    ),
    "a million targets": (
        f'{{"image": "{BASE64}", "targets": [{"7," * 1_000_000}7]}}',
        hostile.refused(bytes, 422, "too_many_targets"),
    ),
    "a million layers": (
        f'{{"image": "{BASE64}", "layer": "{"x," * 1_000_000}x"}}',
        hostile.refused(bytes, 422, "unknown_layer"),
    ),
    "a million instances": (
        f'{{"instances": [{"0," * 1_000_000}0]}}',
        hostile.refused(bytes, 422, "too_many_instances"),
    ),
    "a million values": (
        json.dumps({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [0] * 1_000_000}]}),
        hostile.refused(bytes, 422, "too_many_instances"),
    ),
    "a long name": (json.dumps({"image": BASE64, "x" * 1_000_000: 1}), hostile.refused(bytes, 400, "invalid_option")),
    "a long method": (
        json.dumps({"image": BASE64, "method": "grad" * 1_000_000}),
        hostile.refused(bytes, 422, "unknown_method"),
    ),
    "a long layer": (
        json.dumps({"image": BASE64, "layer": "layer" * 1_000_000}),
        hostile.refused(bytes, 422, "unknown_layer"),
    ),
    "a long colormap": (
        json.dumps({"image": BASE64, "colormap": "jet" * 1_000_000}),
        hostile.refused(bytes, 400, "invalid_option"),
    ),
    "a long label": (
        json.dumps({"image": BASE64, "targets": ["tabby" * 1_000_000]}),
        hostile.refused(bytes, 422, "unknown_class"),
    ),
    "controls in a label": (
        json.dumps({"image": BASE64, "targets": ["ta\0b\r\nb\x1b[31my\x7f"]}),
        hostile.refused(bytes, 422, "unknown_class"),
    ),
    "controls in a method": (
        json.dumps({"image": BASE64, "method": "\0\r\nSet-Cookie: a=b"}),
        hostile.refused(bytes, 422, "unknown_method"),
    ),
    "controls in a layer": (
        json.dumps({"image": BASE64, "layer": "layer4\0"}),
        hostile.refused(bytes, 422, "unknown_layer"),
    ),
    "dunder layer": (json.dumps({"image": BASE64, "layer": "__class__"}), hostile.refused(bytes, 422, "unknown_layer")),
    "a surrogate as a name": (f'{{"image": "{BASE64}", "\\ud800": 1}}', hostile.refused(bytes, 400, "invalid_option")),
    "a surrogate as a layer": (
        f'{{"image": "{BASE64}", "layer": "\\udfff"}}',
        hostile.refused(bytes, 422, "unknown_layer"),
    ),
    "a byte order mark": ('\ufeff{"image": ""}', hostile.refused(bytes, 400, "undecodable_image")),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_hostile_json(name: str, squash: Model) -> None:
    text, expected = DOCUMENTS[name]
    answer(lambda: squash.post(Call(text.encode(), JSON)), expected)


# ----------------------------------------------------------------------------- bytes on the line


def speak(model: Model, said: bytes, patience: float = PATIENCE) -> tuple[int, bytes]:
    """Says these bytes on a connection of their own and reads the answer, status 0 where there is none."""
    address = urlsplit(model.server.inference_url)
    with socket.create_connection((address.hostname, address.port), timeout=patience) as line:
        line.sendall(said)
        response = http.client.HTTPResponse(line, method="POST")
        try:
            response.begin()
            return response.status, response.read()
        except (http.client.HTTPException, ConnectionError):
            return 0, b""


def request(*headers: bytes, body: bytes = PICTURE, length: bool = True) -> bytes:
    lines = [b"POST /predictions/squash HTTP/1.1", b"Host: localhost", *headers]
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


HEADERS: dict[str, bytes] = {
    "invalid utf-8": b"Gradcam-Targets: tabby\xff\xfe",
    "nul": b"Gradcam-Targets: tab\0by",
    "escape": b"Gradcam-Targets: \x1b[31mtabby\x7f",
    "lone carriage return": b"Gradcam-Targets: tab\rby",
    "lone line feed": b"Gradcam-Targets: tab\nGradcam-Method: nothing",
    "folded": b"Gradcam-Targets: tabby,\r\n  nothing",
    "name in latin-1": b"Gradcam-T\xe9rgets: tabby",
    "name with a blank": b"Gradcam-Targets : tabby",
    "nul in the name": b"Gradcam-Top\0k: 1",
    "no name": b": tabby",
    "no colon": b"Gradcam-Targets",
    "empty option": b"Gradcam-: 1",
    "unknown option": b"Gradcam-Nothing: 1",
    "long value": b"Gradcam-Targets: " + b"7," * 3000 + b"7",
    "longer value": b"Gradcam-Targets: " + b"7" * 100_000,
    "many headers": b"\r\n".join(b"Gradcam-X%d: 1" % number for number in range(300)),
    "the same option twice": b"Gradcam-Topk: 0\r\nGradcam-Topk: x",
    "content type": b"Content-Type: application/json; charset=\xff",
    "encoding": b"Content-Encoding: gzip\r\nGradcam-Topk: 0",
    "binary tensors": b"Inference-Header-Content-Length: -1",
}


@pytest.mark.parametrize("name", HEADERS)
def test_hostile_header(name: str, squash: Model) -> None:
    status, body = speak(squash, request(HEADERS[name], b"Connection: close"))

    assert 400 <= status < 500, body[:500]
    said = json.loads(body)
    check_message(said["error"]["message"] if "error" in said else said["message"])


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Type: \x01\x02",
        b"Accept: image/\xff;q=1e999, ;;q=,,",
        b"X-Gradcam-Topk: 0",
        b"Cookie: " + b"x" * 4000,
        b"Describe: True",
        b"Explain: \xff",
    ],
)
def test_header_that_does_not_matter(header: bytes, squash: Model) -> None:
    status, body = speak(squash, request(header))

    assert status == 200
    check(json.loads(body), squash, PIXELS)


FORM = b"Content-Type: multipart/form-data; boundary=x"
PART = (
    b'--x\r\nContent-Disposition: form-data; name="data"; filename="p"\r\nContent-Type: image/png\r\n\r\n'
    + PICTURE
    + b"\r\n"
)


def field(name: bytes, value: bytes) -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name, value)


FORMS: dict[str, bytes] = {
    "without end": request(FORM, body=PART),
    "without anything": request(FORM, body=b""),
    "of another boundary": request(FORM, body=PART.replace(b"--x", b"--y")),
    "value of controls": request(FORM, body=PART + field(b"targets", b"a\0b\r\nc\x1b") + b"--x--\r\n"),
    "value in latin-1": request(FORM, body=PART + field(b"method", b"\xe9\xff") + b"--x--\r\n"),
    "name of controls": request(FORM, body=PART + field(b"to\0p\tk", b"1") + b"--x--\r\n"),
    "name in latin-1": request(FORM, body=PART + field(b"t\xffpk", b"1") + b"--x--\r\n"),
    "long value": request(FORM, body=PART + field(b"targets", b"x" * 2_000_000) + b"--x--\r\n"),
    "many fields": request(FORM, body=PART + b"".join(field(b"x%d" % n, b"1") for n in range(2000)) + b"--x--\r\n"),
}


@pytest.mark.parametrize("name", FORMS)
def test_hostile_form(name: str, squash: Model) -> None:
    status, body = speak(squash, FORMS[name])

    assert 400 <= status < 500, body[:500]
    check_message(json.loads(body)["error"]["message"])


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


CHUNKED = b"Transfer-Encoding: chunked"


def test_body_in_chunks(squash: Model) -> None:
    pieces = [PICTURE[start : start + 100] for start in range(0, len(PICTURE), 100)]

    status, body = speak(squash, request(CHUNKED, body=chunked(*pieces, b""), length=False))

    assert status == 200
    check(json.loads(body), squash, PIXELS)


LINES: dict[str, bytes] = {
    "chunk of a wrong length": request(CHUNKED, body=b"zz\r\n" + PICTURE, length=False),
    "content length that is no number": request(b"Content-Length: ten", length=False),
    "negative content length": request(b"Content-Length: -1", length=False),
    "two content lengths": request(b"Content-Length: 7"),
    "too much content": request(b"Content-Length: 99999999999", length=False),
    "no http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n",
    "long path": b"POST /predictions/" + b"a" * 100_000 + b" HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "path outside": b"POST /predictions/../../models HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "path of controls": b"POST /predictions/%00%0d%0a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", LINES)
def test_hostile_line(name: str, squash: Model) -> None:
    """TorchServe's frontend decides; no worker hears of it."""
    status, body = speak(squash, LINES[name])

    assert status == 0 or 400 <= status < 500, body[:500]
    assert not hostile.LEAK.search(body.decode("utf-8", "replace"))


def test_promised_content_that_does_not_come(squash: Model) -> None:
    address = urlsplit(squash.server.inference_url)
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as line:
        line.sendall(request(b"Content-Length: %d" % (len(PICTURE) + 1), length=False))
        # Who waits keeps nobody else from an answer.
        check(squash.ask(PICTURE), squash, PIXELS)
