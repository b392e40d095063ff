"""Malicious requests are answered in time, with 200 or a precise error, and do not affect other requests."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable, Iterator
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests

from tests.support import hostile, http_client
from tests.support.encoding import encoded
from tests.support.served import Call, Model, check, error, error_v2, parsed, sample

PIXELS = sample(41)
IMAGE = encoded(PIXELS)
BASE64 = base64.b64encode(IMAGE).decode()
VALID = hostile.valid()
JSON = {"Content-Type": "application/json"}

# Decoding may take 10 s; the machine may be busy.
MAX_SECONDS = 20


@pytest.fixture(scope="module", autouse=True)
def _worker_survives(squash: Model) -> Iterator[None]:
    """Check that the worker survives these tests and still answers correctly."""
    (before,) = squash.server.worker_pids(squash.name)
    yield
    assert squash.server.worker_pids(squash.name) == [before]
    check(squash.predict(IMAGE), squash, PIXELS)


def send_and_check(send: Callable[[], requests.Response], expected: hostile.Hostile) -> None:
    """Send a request; check the status and format of its response, which the client awaits for a limited time."""
    response = send()
    assert response.status_code in expected.statuses, response.text[:500]
    if response.status_code == 200:
        assert len(parsed(response)["predictions"]) == 5
    else:
        read_error = error_v2 if isinstance(response.json()["error"], str) else error
        code, message = read_error(response, response.status_code)
        assert code == expected.code or expected.code is None
        check_message(message)


def check_message(message: str) -> None:
    assert 0 < len(message) < 600
    assert not hostile.LEAK.search(message), message


# ----------------------------------------------------------------------------- images


def as_json(data: bytes) -> Call:
    return Call(json={"image": base64.b64encode(data).decode()})


def as_v1(data: bytes) -> Call:
    return Call(json={"instances": [{"image": {"b64": base64.b64encode(data).decode()}}]})


CHANNELS: dict[str, Callable[[bytes], Call]] = {"raw": Call, "form": lambda data: Call(data, form={}), "json": as_json}


@pytest.mark.parametrize("kind", VALID)
def test_truncated_image_is_answered(kind: str, squash: Model) -> None:
    expected = hostile.Hostile(bytes, frozenset({200, 400}))
    for data in hostile.truncated(VALID[kind]):
        send_and_check(lambda data=data: squash.post(Call(data)), expected)  # type: ignore[misc]


@pytest.mark.parametrize("kind", VALID)
def test_image_with_flipped_bits_is_answered(kind: str, squash: Model) -> None:
    for seed in range(8):
        data = hostile.flipped(VALID[kind], seed)
        send_and_check(lambda data=data: squash.post(Call(data)), hostile.damaged(bytes))  # type: ignore[misc]


@pytest.mark.parametrize("name", hostile.CORPUS)
def test_hostile_image_gets_its_expected_status(name: str, squash: Model) -> None:
    entry = hostile.CORPUS[name]
    data = entry.make()
    # Large files are sent only as a raw body, which is quick; all channels share the decoder.
    channels = CHANNELS if len(data) < 100_000 and not name.endswith("full") else {"raw": CHANNELS["raw"]}
    for channel in channels.values():
        send_and_check(lambda channel=channel: squash.post(channel(data)), entry)  # type: ignore[misc]


@pytest.mark.parametrize(
    "filename", ["image.exe", "../../../../etc/passwd", "a" * 5000 + ".jpg", "\u202egpj.exe", "%00.png", ""]
)
@pytest.mark.parametrize("kind", ["jpeg", "gif animated"])
def test_file_name_and_content_type_are_ignored(kind: str, filename: str, squash: Model) -> None:
    part = "form-data; name=data; filename*=UTF-8''" + quote(filename)
    body = (
        f"--x\r\nContent-Disposition: {part}\r\nContent-Type: video/mp4\r\n\r\n".encode()
        + VALID[kind]
        + b"\r\n--x--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    send_and_check(lambda: squash.post(Call(body, headers)), hostile.accepted(bytes))


@pytest.mark.parametrize("route", ["v1", "v2"])
@pytest.mark.parametrize("name", ["png 2^31 - 1", "jpeg more scans", "zip", "svg of entities", "1 × 1"])
def test_hostile_image_fails_alone_in_a_kserve_request(name: str, route: str, squash: Model) -> None:
    entry = hostile.CORPUS[name]
    body: dict[str, Any]
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
        failure = other.get("error")
    else:
        outputs = {output["name"]: output["data"] for output in response.json()["outputs"]}
        failures = outputs.get("error", ["", ""])
        assert failures[0] == ""
        failure = json.loads(failures[1])["error"] if failures[1] else None
    assert (failure and failure["code"]) == entry.code
    if failure:
        check_message(failure["message"])


def post(model: Model, path: str, body: bytes, headers: dict[str, str]) -> requests.Response:
    return http_client.post(model.server.inference_url + path, data=body, headers=headers)


# ----------------------------------------------------------------------------- JSON

TENSOR = json.dumps({"name": "image", "datatype": "BYTES", "shape": [1], "data": [BASE64]})
NEST = "[" * 900 + "]" * 900
DOCUMENTS: dict[str, tuple[str, hostile.Hostile]] = {
    "duplicate keys": (f'{{"image": "AAAA", "image": "{BASE64}", "topk": 0, "topk": 5}}', hostile.accepted(bytes)),
    "blanks in base64": (
        json.dumps({"image": " \n".join(BASE64[i : i + 76] for i in range(0, len(BASE64), 76))}),
        hostile.accepted(bytes),
    ),
    "data url": (f'{{"image": "data:image/jpeg;base64,{BASE64}"}}', hostile.accepted(bytes)),
    "data url of another kind": (f'{{"image": "data:text/html;charset=x;base64,{BASE64}"}}', hostile.accepted(bytes)),
    "url-safe base64": ('{"image": "iVBORw0KGgo_-_-_"}', hostile.rejected(bytes, 400, "invalid_request")),
    "wrong padding": (f'{{"image": "{BASE64.rstrip("=")}A"}}', hostile.rejected(bytes, 400, "invalid_request")),
    "much padding": ('{"image": "' + "=" * 100_000 + '"}', hostile.rejected(bytes, 400, "invalid_request")),
    "nul in base64": ('{"image": "iVBO\\u0000Rw0K"}', hostile.rejected(bytes, 400, "invalid_request")),
    "NaN": ('{"image": NaN}', hostile.rejected(bytes, 400, "invalid_request")),
    "Infinity": (f'{{"image": "{BASE64}", "topk": -Infinity}}', hostile.rejected(bytes, 400, "invalid_option")),
    "NaN alone": ("NaN", hostile.rejected(bytes, 400, "invalid_request")),
    "deep list": (NEST, hostile.rejected(bytes, 400, "invalid_request")),
    "deep image": (f'{{"image": {NEST}}}', hostile.rejected(bytes, 400, "invalid_request")),
    "deep option": (f'{{"image": "{BASE64}", "targets": {NEST}}}', hostile.rejected(bytes, 400, "invalid_option")),
    "deep output": (
        f'{{"inputs": [{TENSOR}], "outputs": [{{"name": {NEST}}}]}}',
        hostile.rejected(bytes, 400, "invalid_request"),
    ),
    "deep object": ('{"image":' * 900 + "1" + "}" * 900, hostile.rejected(bytes, 400, "invalid_request")),
    "a million members": (
        json.dumps(dict.fromkeys(map(str, range(1_000_000)))),
        hostile.rejected(bytes, 400, "invalid_request"),
    ),
    "a million options": (
        json.dumps({"image": "", **dict.fromkeys(map(str, range(1_000_000)))}),
        hostile.rejected(bytes, 400, "invalid_option"),
    ),
    "a million targets": (
        f'{{"image": "{BASE64}", "targets": [{"7," * 1_000_000}7]}}',
        hostile.rejected(bytes, 422, "too_many_targets"),
    ),
    "a million layers": (
        f'{{"image": "{BASE64}", "layer": "{"x," * 1_000_000}x"}}',
        hostile.rejected(bytes, 422, "unknown_layer"),
    ),
    "a million instances": (
        f'{{"instances": [{"0," * 1_000_000}0]}}',
        hostile.rejected(bytes, 422, "too_many_instances"),
    ),
    "a million values": (
        json.dumps({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [0] * 1_000_000}]}),
        hostile.rejected(bytes, 422, "too_many_instances"),
    ),
    "a long name": (json.dumps({"image": BASE64, "x" * 1_000_000: 1}), hostile.rejected(bytes, 400, "invalid_option")),
    "a long method": (
        json.dumps({"image": BASE64, "method": "grad" * 1_000_000}),
        hostile.rejected(bytes, 422, "unknown_method"),
    ),
    "a long layer": (
        json.dumps({"image": BASE64, "layer": "layer" * 1_000_000}),
        hostile.rejected(bytes, 422, "unknown_layer"),
    ),
    "a long colormap": (
        json.dumps({"image": BASE64, "colormap": "jet" * 1_000_000}),
        hostile.rejected(bytes, 400, "invalid_option"),
    ),
    "a long label": (
        json.dumps({"image": BASE64, "targets": ["tabby" * 1_000_000]}),
        hostile.rejected(bytes, 422, "unknown_class"),
    ),
    "controls in a label": (
        json.dumps({"image": BASE64, "targets": ["ta\0b\r\nb\x1b[31my\x7f"]}),
        hostile.rejected(bytes, 422, "unknown_class"),
    ),
    "controls in a method": (
        json.dumps({"image": BASE64, "method": "\0\r\nSet-Cookie: a=b"}),
        hostile.rejected(bytes, 422, "unknown_method"),
    ),
    "controls in a layer": (
        json.dumps({"image": BASE64, "layer": "layer4\0"}),
        hostile.rejected(bytes, 422, "unknown_layer"),
    ),
    "dunder layer": (
        json.dumps({"image": BASE64, "layer": "__class__"}),
        hostile.rejected(bytes, 422, "unknown_layer"),
    ),
    "a surrogate as a name": (f'{{"image": "{BASE64}", "\\ud800": 1}}', hostile.rejected(bytes, 400, "invalid_option")),
    "a surrogate as a layer": (
        f'{{"image": "{BASE64}", "layer": "\\udfff"}}',
        hostile.rejected(bytes, 422, "unknown_layer"),
    ),
    "a byte order mark": ('\ufeff{"image": ""}', hostile.rejected(bytes, 400, "undecodable_image")),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_hostile_json_gets_its_expected_status(name: str, squash: Model) -> None:
    text, expected = DOCUMENTS[name]
    send_and_check(lambda: squash.post(Call(text.encode(), JSON)), expected)


# ----------------------------------------------------------------------------- raw bytes over TCP


def exchange(model: Model, payload: bytes) -> tuple[int, bytes]:
    """Send bytes on a new connection; return status and body of the response, status 0 if there is none."""
    address = urlsplit(model.server.inference_url)
    with socket.create_connection((address.hostname, address.port or 80), timeout=MAX_SECONDS) as connection:
        connection.sendall(payload)
        response = HTTPResponse(connection, method="POST")
        try:
            response.begin()
            return response.status, response.read()
        except (HTTPException, ConnectionError):
            return 0, b""


def request(*headers: bytes, body: bytes = IMAGE, length: bool = True) -> bytes:
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
def test_hostile_header_is_rejected(name: str, squash: Model) -> None:
    status, body = exchange(squash, request(HEADERS[name], b"Connection: close"))

    assert 400 <= status < 500, body[:500]
    answer = json.loads(body)
    error = answer.get("error", answer)
    check_message(error if isinstance(error, str) else error["message"])


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
def test_irrelevant_header_is_ignored(header: bytes, squash: Model) -> None:
    status, body = exchange(squash, request(header))

    assert status == 200
    check(json.loads(body), squash, PIXELS)


FORM = b"Content-Type: multipart/form-data; boundary=x"
PART = (
    b'--x\r\nContent-Disposition: form-data; name="data"; filename="p"\r\nContent-Type: image/png\r\n\r\n'
    + IMAGE
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
def test_hostile_form_is_rejected(name: str, squash: Model) -> None:
    status, body = exchange(squash, FORMS[name])

    assert 400 <= status < 500, body[:500]
    check_message(json.loads(body)["error"]["message"])


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


CHUNKED = b"Transfer-Encoding: chunked"


def test_chunked_body_is_accepted(squash: Model) -> None:
    pieces = [IMAGE[start : start + 100] for start in range(0, len(IMAGE), 100)]

    status, body = exchange(squash, request(CHUNKED, body=chunked(*pieces, b""), length=False))

    assert status == 200
    check(json.loads(body), squash, PIXELS)


MESSAGES: dict[str, bytes] = {
    "chunk of a wrong length": request(CHUNKED, body=b"zz\r\n" + IMAGE, length=False),
    "content length that is no number": request(b"Content-Length: ten", length=False),
    "negative content length": request(b"Content-Length: -1", length=False),
    "two content lengths": request(b"Content-Length: 7"),
    "too much content": request(b"Content-Length: 99999999999", length=False),
    "no http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n",
    "long path": b"POST /predictions/" + b"a" * 100_000 + b" HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "path outside": b"POST /predictions/../../models HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "path of controls": b"POST /predictions/%00%0d%0a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", MESSAGES)
def test_malformed_http_message_is_rejected(name: str, squash: Model) -> None:
    """TorchServe's frontend answers; the request does not reach a worker."""
    status, body = exchange(squash, MESSAGES[name])

    assert status == 0 or 400 <= status < 500, body[:500]
    assert not hostile.LEAK.search(body.decode("utf-8", "replace"))


def test_missing_content_does_not_block_others(squash: Model) -> None:
    address = urlsplit(squash.server.inference_url)
    with socket.create_connection((address.hostname, address.port or 80), timeout=MAX_SECONDS) as connection:
        connection.sendall(request(b"Content-Length: %d" % (len(IMAGE) + 1), length=False))
        # While this connection waits, others are answered.
        check(squash.predict(IMAGE), squash, PIXELS)
