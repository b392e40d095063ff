"""Properties: payloads are parsed or rejected, options mean the same in every protocol, bytes are decoded or not."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

import torchserve_rows
from gradcam.errors import InvalidOption, RequestError, UndecodableImage
from gradcam.images.decoding import baseline_jpeg, decode
from gradcam.images.geometry import Region
from gradcam.message import Explanation, Prediction, Request, RequestGroup, Result, ServedModel
from gradcam.options import PARSERS, Options
from gradcam.protocols import dispatch
from tests.support import hostile
from tests.support.settings import settings as model_settings

pytestmark = pytest.mark.slow

MODEL = ServedModel("hats", "2.0", "0123456789ab")
IMAGE = b"\x89PNG\r\n\x1a\n\xff\xfe"
BASE64 = base64.b64encode(IMAGE).decode()
MAX_INSTANCES = 4
MAX_UNPACKED = 10_000
NO_LIMIT = 2**40
MAX_MESSAGE_CHARACTERS = 600


def bounded(examples: int) -> settings:
    """Use the same examples in every run, so that a failure is reproducible."""
    return settings(max_examples=examples, derandomize=True, deadline=None, database=None)


def parse(row: dict[str, Any], headers: dict[str, Any]) -> RequestGroup:
    """Parse a row that came over HTTP, which always has some header."""
    payload = torchserve_rows.payload(row, {"Host": "localhost", **headers})
    return dispatch.parse(payload, MODEL, MAX_INSTANCES, MAX_UNPACKED)


# ----------------------------------------------------------------------------- any payload

texts = st.text(st.characters(), max_size=20)  # lone surrogates and controls too, as JSON has them
names = st.sampled_from([*PARSERS, "image", "data", "body", "b64", "name", "shape", "datatype", "parameters", "id"])
keys = names | texts
# As many digits as Python reads, and so as JSON may have.
huge = st.integers(1, 4000).map(lambda digits: 10**digits)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | huge
    | huge.map(lambda number: -number)
    | st.floats()
    | texts
    | st.sampled_from([BASE64, f"data:image/png;base64,{BASE64}", "BYTES", "image", "png", "1,,2", '"', "9" * 30])
)
deep = st.integers(1, 300).map(lambda depth: json.loads("[" * depth + "]" * depth))
documents = st.recursive(
    scalars | deep, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)

instances = st.fixed_dictionaries({"image": st.just(BASE64) | documents}, optional=dict.fromkeys(PARSERS, documents))
v1 = st.fixed_dictionaries(
    {"instances": st.lists(instances | documents, max_size=MAX_INSTANCES + 1) | documents},
    optional={"parameters": st.dictionaries(keys, scalars, max_size=3) | documents, "inputs": documents},
)
tensors = st.fixed_dictionaries(
    {
        "name": st.just("image") | scalars,
        "datatype": st.just("BYTES") | scalars,
        "shape": st.just([1]) | st.lists(st.integers(-1, 3), max_size=5) | documents,
        "data": st.just([BASE64]) | st.lists(scalars, max_size=MAX_INSTANCES + 1) | documents,
    },
    optional={"parameters": st.dictionaries(keys, scalars, max_size=3) | documents},
)
v2 = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, min_size=1, max_size=2) | documents},
    optional={
        "parameters": st.dictionaries(keys, scalars, max_size=3) | documents,
        "outputs": st.lists(st.fixed_dictionaries({"name": documents}), max_size=2) | documents,
        "id": documents,
    },
)
raw = st.binary(max_size=40)
bodies = raw | raw.map(bytearray) | texts | instances | v1 | v2 | documents
forms = st.dictionaries(keys, raw | raw.map(bytearray) | texts | documents, max_size=4)
rows = st.fixed_dictionaries({"body": bodies}) | st.fixed_dictionaries({"data": st.just(IMAGE)}, optional={}) | forms

header_names = st.sampled_from(
    [
        "Accept",
        "Content-Type",
        "explain",
        "Inference-Header-Content-Length",
        "Content-Encoding",
        "Gradcam-",
        *map("GRADCAM-{}".format, PARSERS),
    ]
)
header_values = texts | st.sampled_from(
    ["image/png", "application/json", "true", "*/*;q=0.1, image/*;q=2", "q=;;,", "gzip", "5"]
)
headers = st.dictionaries(header_names | texts, header_values | raw, max_size=4)


def answer(request: Request | RequestError) -> Result | RequestError:
    """Return a result that the pipeline might have for a request."""
    if isinstance(request, RequestError):
        return request
    if request.accept and request.options.explained_classes == 0:
        return InvalidOption("explain must be at least 1")
    hat = Prediction(515, "cowboy hat", 0.6)
    drawn = None if request.encoding is None else b"drawn"
    explanations = [Explanation(hat, np.ones((1, 1), np.float32), 0.5, (1, 2), drawn)] * min(
        request.options.explained_classes, 3
    )
    return Result(request, [hat], explanations, "gradcam", ("layer4",), 3, 4, Region(0, 0, 3, 4), MODEL)


def check_error(document: Any) -> None:
    assert document.keys() == {"code", "message"}
    assert document["code"].isidentifier()
    assert 0 < len(document["message"]) <= MAX_MESSAGE_CHARACTERS
    assert not hostile.LEAK.search(document["message"])


def check_replies(group: RequestGroup) -> None:
    """Check the replies if no image can be decoded, and if all can."""
    assert all(isinstance(request, Request | RequestError) for request in group.requests)
    assert 0 < len(group.requests) <= MAX_INSTANCES
    broken = UndecodableImage("it is broken")
    failed: list[Result | RequestError] = [
        request if isinstance(request, RequestError) else broken for request in group.requests
    ]
    reply = dispatch.render(group, failed, NO_LIMIT)
    assert 400 <= reply.status < 500
    assert reply.phrase.isascii()
    assert reply.content_type == "application/json"
    assert reply.errors == tuple(failed)
    assert isinstance(reply.body, str)
    assert reply.body.isascii()
    document = json.loads(reply.body)
    if isinstance(document["error"], str):
        assert document.keys() == {"error", "code"}  # V2
        document = {"error": {"code": document["code"], "message": document["error"]}}
    check_error(document["error"])

    results = [answer(request) for request in group.requests]
    reply = dispatch.render(group, results, NO_LIMIT)
    failed_all = all(isinstance(result, RequestError) for result in results)
    assert (reply.status == 200) is not failed_all
    if reply.content_type == "application/json":
        assert str(reply.body).isascii()
        json.loads(reply.body, parse_constant=pytest.fail)
    else:
        assert (reply.content_type, reply.body) in [("image/png", b"drawn"), ("image/jpeg", b"drawn")]


@bounded(700)
@given(row=rows, headers=headers)
def test_any_row_is_answered(row: dict[str, Any], headers: dict[str, Any]) -> None:
    check_replies(parse(row, headers))


@bounded(250)
@given(body=v1, headers=headers)
@example(body={"instances": [{"image": BASE64}, {}], "parameters": {"topk": math.nan}}, headers={})
def test_any_v1_body_is_answered(body: dict[str, Any], headers: dict[str, Any]) -> None:
    check_replies(parse({"body": body}, headers))


@bounded(250)
@given(body=v2, headers=headers)
def test_any_v2_body_is_answered(body: dict[str, Any], headers: dict[str, Any]) -> None:
    check_replies(parse({"body": body}, headers))


@bounded(150)
@given(body=v2)
def test_any_model_infer_call_is_answered_in_tensors(body: dict[str, Any]) -> None:
    group = dispatch.parse(torchserve_rows.payload({"body": body}, {}), MODEL, MAX_INSTANCES, MAX_UNPACKED)

    reply = dispatch.render(group, [UndecodableImage("it is broken")] * len(group.requests), NO_LIMIT)

    (tensor,) = json.loads(str(reply.body))["outputs"]
    assert (reply.status, tensor["name"], tensor["shape"]) == (200, "error", [len(group.requests)])
    for entry in tensor["data"]:
        check_error(json.loads(entry)["error"])


@bounded(300)
@given(text=raw | documents.map(lambda document: json.dumps(document).encode()), cut=st.integers(0, 40))
def test_any_body_with_the_content_type_of_json_is_answered(text: bytes, cut: int) -> None:
    check_replies(parse({"body": text[: len(text) - cut]}, {"content-type": "application/json; charset=utf-8"}))


def nested(template: str, depth: int) -> Any:
    return json.loads(template.replace("%", "[" * depth + "]" * depth))


TENSOR = '{"name": "image", "datatype": "BYTES", "shape": [1], "data": [""]}'
PLACES = {
    "instance": '{"instances": [%]}',
    "instances": '{"instances": %}',
    "parameters": '{"instances": [{}], "parameters": %}',
    "parameter": '{"instances": [{"image": ""}], "parameters": {"alpha": %}}',
    "inputs": '{"inputs": %}',
    "data": '{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": %}]}',
    "shape": '{"inputs": [{"name": "image", "datatype": "BYTES", "shape": %, "data": [""]}]}',
    "name": '{"inputs": [{"name": %, "datatype": "BYTES", "shape": [1], "data": [""]}]}',
    "id": f'{{"inputs": [{TENSOR}], "id": %}}',
    "output": f'{{"inputs": [{TENSOR}], "outputs": [{{"name": %}}]}}',
    "outputs": f'{{"inputs": [{TENSOR}], "outputs": %}}',
}


def deeper(frames: int, row: dict[str, Any]) -> RequestGroup:
    """Parse from deeper in the stack, since TorchServe parses the JSON higher up."""
    return deeper(frames - 1, row) if frames else parse(row, {})


@pytest.mark.parametrize("template", PLACES.values(), ids=PLACES)
def test_deeply_nested_json_of_kserve_is_answered(template: str) -> None:
    depth = 1
    while True:
        try:
            body = nested(template, depth)
        except RecursionError:
            break
        depth += 1 if depth > 900 else 100
        last = body
    check_replies(deeper(20, {"body": last}))
    if "inputs" in template:
        dispatch.parse(torchserve_rows.payload({"body": last}, {}), MODEL, MAX_INSTANCES, MAX_UNPACKED)


# ----------------------------------------------------------------------------- options in every protocol

# Without control characters: a header cannot have them, and a comma-separated list treats line breaks specially.
words = (
    st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=12)
    .map(str.strip)
    .filter(bool)
)
labels = words.filter(lambda label: not (label.isascii() and label.isdigit()))
counts = st.integers(0, 999_999_999)

valid_options = st.fixed_dictionaries(
    {},
    optional={
        "topk": counts.filter(bool),
        "targets": st.lists(counts | labels, min_size=1, max_size=4).map(tuple),
        "explain": counts,
        "method": words,
        "layer": st.lists(words.filter(lambda word: "," not in word), min_size=1, max_size=3).map(tuple),
        "smooth": st.booleans(),
        "heatmap": st.sampled_from(["grid", "none"]),
        "overlay": st.sampled_from(["png", "jpeg", "none"]),
        "colormap": words,
        "alpha": st.floats(0, 1),
    },
)


def targets_as_text(targets: Sequence[int | str]) -> str:
    """Return classes as a line of CSV."""
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_NONNUMERIC, lineterminator="").writerow(targets)
    return line.getvalue()


def as_text(chosen: dict[str, Any]) -> dict[str, str]:
    """Return options as text."""
    text = {}
    for name, value in chosen.items():
        if name == "targets":
            text[name] = targets_as_text(value)
        elif name == "layer":
            text[name] = " , ".join(value)
        else:
            text[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return text


def as_json(chosen: dict[str, Any]) -> dict[str, Any]:
    """Return options in the types of JSON, after a round trip."""
    members: dict[str, Any] = json.loads(json.dumps(chosen))
    return members


def tensor(**members: Any) -> dict[str, Any]:
    return {"name": "image", "shape": [1], "datatype": "BYTES", "data": [BASE64], **members}


def protocols(chosen: dict[str, Any]) -> dict[str, tuple[dict[str, Any], dict[str, str]]]:
    """Return row and headers of the same request in every protocol."""
    text, members = as_text(chosen), as_json(chosen)
    # TorchServe reads the UTF-8 that clients send as Latin-1.
    in_headers = {f"Gradcam-{name.title()}": value.encode().decode("latin-1") for name, value in text.items()}
    document = {"image": BASE64, **members}
    return {
        "raw, headers": ({"body": bytearray(IMAGE)}, in_headers),
        "raw, headers of a proxy": ({"body": IMAGE}, {name.lower(): value for name, value in in_headers.items()}),
        "form": ({"data": IMAGE, **{name: bytearray(value.encode()) for name, value in text.items()}}, {}),
        "form, headers": ({"image": IMAGE}, in_headers),
        "json": ({"body": document}, {}),
        "json, as text": ({"body": {"image": BASE64, **text}}, {}),
        "json, as bytes": ({"body": json.dumps(document).encode()}, {"content-type": "application/json;charset=utf-8"}),
        "json, headers": ({"body": {"data": BASE64}}, in_headers),
        "v1, instance": ({"body": {"instances": [document]}}, {}),
        "v1, parameters": ({"body": {"instances": [{"image": {"b64": BASE64}}], "parameters": members}}, {}),
        "v1, headers": ({"body": {"instances": [BASE64]}}, in_headers),
        "v2, parameters": ({"body": {"inputs": [tensor()], "parameters": text}}, {}),
        "v2, parameters of the tensor": ({"body": {"inputs": [tensor(parameters=members)]}}, {}),
        "v2, headers": ({"body": {"inputs": [tensor()]}}, in_headers),
        "grpc": ({"data": IMAGE, **{name: value.encode() for name, value in text.items()}}, {}),
    }


@bounded(300)
@given(chosen=valid_options)
@example(
    chosen={"targets": ('crane, "bird"', 7, "Straße 猫"), "layer": ("layer4", "layer3"), "smooth": True, "alpha": 1e-9}
)
@example(chosen={"explain": 0, "topk": 999_999_999, "overlay": "jpeg", "heatmap": "none"})
def test_options_mean_the_same_in_every_protocol(chosen: dict[str, Any]) -> None:
    assume(not {"targets", "explain"} <= chosen.keys())
    expected = Request(IMAGE, Options(**chosen))
    for protocol, (row, headers) in protocols(chosen).items():
        assert parse(row, headers).requests == [expected], protocol


# ----------------------------------------------------------------------------- images

# Small limits, so that sizes that damage has made large are rejected early.
SMALL = model_settings(max_image_pixels=200_000, max_decode_seconds=5)
VALID = hostile.valid()


def decoded_or_error(data: bytes) -> Image.Image | RequestError:
    try:
        return decode(data, SMALL).image
    except RequestError as error:
        return error


def check_decoding(data: bytes) -> None:
    decoded = decoded_or_error(data)
    plain = baseline_jpeg(data, SMALL)
    if plain is not None and isinstance(decoded, Image.Image):
        assert (plain.width, plain.height) == decoded.size
    if isinstance(decoded, RequestError):
        assert 400 <= decoded.status < 500
        check_error({"code": decoded.code, "message": str(decoded)})
    else:
        assert decoded.mode == "RGB"
        assert 0 < decoded.width * decoded.height <= SMALL.max_image_pixels
        assert np.asarray(decoded).shape == (decoded.height, decoded.width, 3)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid file that is truncated, has flipped bits or repeated pieces, or is spliced with another."""
    data = VALID[draw(st.sampled_from(sorted(VALID)))]
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        piece = data[start:end]
        kind = draw(st.sampled_from(["cut", "flip", "splice", "repeat", "number"]))
        if kind == "cut":
            data = data[:end]
        elif kind == "flip" and piece:
            data = data[:start] + bytes([piece[0] ^ 1 << draw(st.integers(0, 7))]) + data[start + 1 :]
        elif kind == "splice":
            other = VALID[draw(st.sampled_from(sorted(VALID)))]
            data = data[:start] + other[draw(st.integers(0, len(other))) :]
        elif kind == "repeat":
            data = data[:end] + piece * draw(st.integers(1, 50)) + data[end:]
        else:
            number = draw(st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"]))
            data = data[:start] + number + data[start + 4 :]
    return data


@bounded(800)
@given(data=damaged())
def test_a_damaged_image_is_decoded_or_rejected(data: bytes) -> None:
    check_decoding(data)


@bounded(500)
@given(
    beginning=st.sampled_from([b"", *(data[:length] for data in VALID.values() for length in (4, 12, 30))]), data=raw
)
def test_bytes_are_decoded_or_rejected(beginning: bytes, data: bytes) -> None:
    check_decoding(beginning + data)


@pytest.mark.parametrize("kind", VALID)
def test_the_undamaged_files_are_valid(kind: str) -> None:
    image = decode(VALID[kind], SMALL).image
    with Image.open(io.BytesIO(VALID[kind])) as opened:
        assert sorted(image.size) == sorted(opened.size)
    if kind != "bmp rle":
        assert sorted(image.size) == [32, 48]
