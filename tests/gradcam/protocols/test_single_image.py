"""Requests of one image, and the exact reply."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from gradcam.errors import InvalidOption, InvalidRequest, RequestError, TooLarge, UndecodableImage, UnknownName
from gradcam.explain.boxes import Box
from gradcam.images.geometry import Region
from gradcam.message import Explanation, Prediction, Reply, Request, Result, ServedModel
from gradcam.options import Encoding, Options
from gradcam.protocols import single_image

IMAGE = b"\x89PNG\r\n\x1a\n\xff\xfe"
BASE64 = base64.b64encode(IMAGE).decode()


def parse(fields: dict[str, Any], header_options: dict[str, Any] | None = None, accept: str = "") -> Request:
    (request,) = single_image.read(fields, header_options or {}, accept).requests
    assert isinstance(request, Request)
    return request


def reply_to(result: Result | RequestError) -> Reply:
    return single_image.reply([result])


# ----------------------------------------------------------------------------- image


@pytest.mark.parametrize(
    "value",
    [
        IMAGE,
        bytearray(IMAGE),
        BASE64,
        {"b64": BASE64},
        f"data:image/png;base64,{BASE64}",
        f"  {BASE64[:4]}\r\n{BASE64[4:]}\n",
        f"\n data:image/png;base64, {BASE64[:4]}\n{BASE64[4:]}",
    ],
    ids=["bytes", "bytearray", "base64", "b64", "data url", "white space in base64", "white space in a data url"],
)
@pytest.mark.parametrize("name", ["data", "body", "image"])
def test_forms_of_an_image(name: str, value: Any) -> None:
    assert parse({name: value}) == Request(IMAGE, Options(), None)


def test_fields_replace_options_of_headers() -> None:
    assert parse({"data": IMAGE, "topk": b"7"}, {"topk": "3", "alpha": "1"}).options == Options(topk=7, alpha=1.0)
    assert parse({"data": IMAGE, "targets": b"1"}, {"explain": "2"}).options == Options(targets=(1,))


def test_an_image_that_is_neither_bytes_nor_base64() -> None:
    with pytest.raises(InvalidRequest, match=r"^Image must be bytes, or base64 in a JSON string, got \[1, 2\]$"):
        single_image.image_bytes([1, 2])
    with pytest.raises(InvalidRequest, match=r"^Image is not valid base64"):
        single_image.image_bytes("http://example.org/cat.png")


# ----------------------------------------------------------------------------- accept

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/png,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", None),
        ("*/*", None),
        ("application/json", None),
        (BROWSER, None),
        ("image/webp", None),
        (" , ;q=1", None),
        ("image/png", "png"),
        ("IMAGE/PNG", "png"),
        ("image/jpeg", "jpeg"),
        ("image/*", "png"),
        ("image/png, */*", "png"),
        ("image/png;q=0.9, image/jpeg", "jpeg"),
        ("application/json;q=0.5, image/png", "png"),
        ("application/json; q=0.5 , image/png ; q=0.6", "png"),
        ("image/png;q=0.5, application/json", None),
        ("image/png; Q=0.1, application/json;q=0.2", None),
        ("image/png;q=high, application/json;q=0.1", None),
        ("image/png;q=0", None),
        ("image/png;q=0.000, image/jpeg;q=0.1", "jpeg"),
    ],
)
def test_accept(accept: str, expected: str | None) -> None:
    request = parse({"image": IMAGE}, accept=accept)
    assert (request.accept, request.encoding) == (expected, expected)


def test_the_encoding_of_the_overlay() -> None:
    assert parse({"image": IMAGE}).encoding is None
    assert parse({"image": IMAGE, "overlay": "none"}).encoding is None
    assert parse({"image": IMAGE, "overlay": "jpeg"}).encoding == "jpeg"
    both = parse({"image": IMAGE, "overlay": "jpeg"}, accept="image/png")
    assert both.encoding == "png"


# ----------------------------------------------------------------------------- reply

HAT = Prediction(515, "cowboy hat", 0.61572345)
JAY = Prediction(17, 'Eichelhäher "jay"', 1.25e-9)
NOTHING = Explanation(JAY, np.zeros((1, 2), np.float32), 0.0, None, None)
SOMETHING = Explanation(HAT, np.array([[0, 1], [1 / 3, 0.1]], np.float32), 3.14159265, (412, 130), None)


def result(*explanations: Explanation, accept: Encoding | None = None, **options: Any) -> Result:
    return Result(
        request=Request(IMAGE, Options(**options), accept),
        predictions=[HAT, JAY],
        explanations=list(explanations),
        method="gradcam",
        layers=("layer4.1.conv2",),
        width=1024,
        height=768,
        region=Region(174, 48, 847, 720),
        model=ServedModel("hats", "2.0", "0123456789ab"),
    )


HEAD = (
    '{"predictions":[{"index":515,"label":"cowboy hat","probability":0.615723},'
    '{"index":17,"label":"Eichelh\\u00e4her \\"jay\\"","probability":1.25e-09}],"explanations":['
)
TAIL = (
    '],"method":"gradcam","layer":"layer4.1.conv2","image":{"width":1024,"height":768,"region":[174,48,847,720]},'
    '"model":{"name":"hats","version":"2.0","weights":"0123456789ab"}}'
)


def test_json_to_the_character() -> None:
    expected = (
        '{"index":515,"label":"cowboy hat","probability":0.615723,"evidence":true,'
        '"heatmap":[[0.0,1.0],[0.333333,0.1]],"peak":[412,130],"strength":3.14159},'
        '{"index":17,"label":"Eichelh\\u00e4her \\"jay\\"","probability":1.25e-09,"evidence":false,'
        '"heatmap":[[0.0,0.0]],"peak":null,"strength":0.0}'
    )
    reply = reply_to(result(SOMETHING, NOTHING))
    assert reply == Reply(200, "OK", "application/json", HEAD + expected + TAIL)


def test_json_with_contrast_and_boxes() -> None:
    explained = dataclasses.replace(SOMETHING, versus=JAY, boxes=[Box((1, 2, 31, 42), 900, 0.123456789)])
    document = json.loads(str(reply_to(result(explained, heatmap="none")).body))
    assert document["explanations"][0]["versus"] == {"index": 17, "label": 'Eichelhäher "jay"', "probability": 1.25e-9}
    assert document["explanations"][0]["boxes"] == [{"box": [1, 2, 31, 42], "area": 900, "mean": 0.123457}]


def test_json_without_heatmap() -> None:
    expected = (
        '{"index":515,"label":"cowboy hat","probability":0.615723,"evidence":true,"peak":[412,130],"strength":3.14159}'
    )
    assert reply_to(result(SOMETHING, heatmap="none")).body == HEAD + expected + TAIL


def test_json_without_explanations() -> None:
    assert reply_to(result(explain=0)).body == HEAD + TAIL


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_overlay_as_data_url(kind: str) -> None:
    drawn = dataclasses.replace(SOMETHING, overlay=b"\x89PNG\xff")
    body = reply_to(result(drawn, overlay=kind, heatmap="none")).body
    assert isinstance(body, str)
    assert json.loads(body)["explanations"][0]["overlay"] == f"data:image/{kind};base64,iVBOR/8="


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_overlay_as_the_reply_is_that_of_the_first_target(kind: Encoding) -> None:
    first, second = (dataclasses.replace(SOMETHING, overlay=data) for data in (b"first", b"second"))
    assert reply_to(result(first, second, accept=kind)) == Reply(200, "OK", f"image/{kind}", b"first")


@pytest.mark.parametrize(
    ("error", "status", "phrase", "code"),
    [
        (InvalidRequest("no × image"), 400, "Bad Request", "invalid_request"),
        (InvalidOption("no × image"), 400, "Bad Request", "invalid_option"),
        (UndecodableImage("no × image"), 400, "Bad Request", "undecodable_image"),
        (TooLarge("no × image"), 413, "Payload Too Large", "image_too_large"),
        (UnknownName("no × image"), 422, "Unprocessable Entity", "unknown_name"),
        (UnknownName("no × image", code="unknown_class"), 422, "Unprocessable Entity", "unknown_class"),
    ],
)
def test_errors_to_the_character(error: RequestError, status: int, phrase: str, code: str) -> None:
    body = f'{{"error":{{"code":"{code}","message":"no \\u00d7 image"}}}}'
    assert reply_to(error) == Reply(status, phrase, "application/json", body, (error,))


def test_json_is_ascii_whatever_the_label() -> None:
    strange = dataclasses.replace(HAT, label="\ud800 \u2028 \x00 猫")
    reply = reply_to(dataclasses.replace(result(), predictions=[strange]))
    assert isinstance(reply.body, str)
    assert reply.body.isascii()
    assert json.loads(reply.body)["predictions"][0]["label"] == "\ud800 \u2028 \x00 猫"


def test_nan_is_never_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        reply_to(dataclasses.replace(result(), predictions=[dataclasses.replace(HAT, probability=math.nan)]))
    with pytest.raises(ValueError, match="not JSON compliant"):
        reply_to(result(dataclasses.replace(SOMETHING, heatmap=np.full((1, 1), np.nan, np.float32))))


def test_the_map_survives_the_reply() -> None:
    values = np.random.default_rng(0).random((7, 7), dtype=np.float32)
    body = reply_to(result(dataclasses.replace(SOMETHING, heatmap=values))).body
    assert isinstance(body, str)
    assert np.abs(np.array(json.loads(body)["explanations"][0]["heatmap"]) - values).max() <= 5.1e-7


def test_several_layers_are_a_list_in_the_reply() -> None:
    fused = dataclasses.replace(result(SOMETHING), layers=("layer4", "layer3"))
    assert json.loads(str(reply_to(fused).body))["layer"] == ["layer4", "layer3"]
