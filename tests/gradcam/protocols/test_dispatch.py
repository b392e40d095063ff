"""Protocol dispatch: every endpoint's payloads to requests, and the size limit of replies."""

from __future__ import annotations

import base64
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest

import torchserve_rows
from gradcam.errors import InvalidOption, InvalidRequest, RequestError, TooLarge
from gradcam.message import Request
from gradcam.options import Options
from gradcam.protocols import dispatch
from gradcam.protocols.dispatch import Form, Payload
from tests.support import kserve
from tests.support.kserve import MAX_UNPACKED, MODEL, NO_LIMIT, hats, infer

IMAGE = b"\x89PNG\r\n\x1a\n\xff\xfe"
BASE64 = base64.b64encode(IMAGE).decode()
JSON = "application/json"


def parse(body: Any, content_type: str = "", **headers: str) -> Request:
    """Parse a payload of one image; headers are named with underscores."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    (request,) = dispatch.parse(Payload(body, content_type, names), MODEL, 32, MAX_UNPACKED).requests
    if isinstance(request, RequestError):
        raise request
    return request


def rejection(body: Any, content_type: str = "", **headers: str) -> RequestError:
    with pytest.raises(RequestError) as raised:
        parse(body, content_type, **headers)
    return raised.value


# ----------------------------------------------------------------------------- endpoints of one image


@pytest.mark.parametrize(
    "body",
    [
        IMAGE,
        bytearray(IMAGE),
        Form({"data": IMAGE}),
        Form({"image": IMAGE}),
        Form({"body": IMAGE}),
        Form({"data": bytearray(IMAGE)}),
        {"image": BASE64},
        {"data": BASE64},
        {"body": BASE64},
        {"image": {"b64": BASE64}},
        {"image": f"data:image/png;base64,{BASE64}"},
        {"image": f"  {BASE64[:4]}\r\n{BASE64[4:]}\n"},
        {"image": f"\n data:image/png;base64, {BASE64[:4]}\n{BASE64[4:]}"},
        BASE64,
        Form({"data": BASE64}),
    ],
    ids=[
        "raw",
        "raw bytearray",
        "form data",
        "form image",
        "form body",
        "form bytearray",
        "json image",
        "json data",
        "json body",
        "b64",
        "data url",
        "white space in base64",
        "white space around a data url",
        "json text",
        "form text",
    ],
)
def test_the_image_arrives_through_every_endpoint(body: Any) -> None:
    assert parse(body) == Request(IMAGE, Options(), None)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (Form({}), "Request has no image"),
        (Form({"topk": b"3"}), "form field 'data'"),
        ({}, '{"image": "<base64>"}'),
        ([BASE64], "must be an object"),
        (None, "got None"),
        (5, "got 5"),
        (True, "got True"),
        ({"image": None}, "got None"),
        ({"image": 1.5}, "got 1.5"),
        ({"image": [1, 2]}, "got [1, 2]"),
        ({"image": {}}, "got {}"),
        ({"image": {"b64": 7}}, "got {'b64': 7}"),
        ({"image": "AAA"}, "not valid base64"),
        ({"image": "AAA-"}, "not valid base64"),
        ({"image": "é" * 4}, "not valid base64"),
        ({"image": "\ud800"}, "not valid base64"),
        ({"image": "http://example.org/cat.png"}, "not valid base64"),
        ({"image": {"b64": "%"}}, "not valid base64"),
    ],
    ids=str,
)
def test_without_an_image_the_request_is_invalid(body: Any, reason: str) -> None:
    error = rejection(body)
    assert (type(error), error.code, error.status) == (InvalidRequest, "invalid_request", 400)
    assert reason in str(error)


@pytest.mark.parametrize("content_type", ["", "image/png", "text/plain", "application/vnd.api+json", "text/json"])
@pytest.mark.parametrize("beginning", [b"", b" \r\n\t", b"\xef\xbb\xbf"], ids=["", "white space", "byte order mark"])
def test_json_is_recognized_by_its_brace(content_type: str, beginning: bytes) -> None:
    text = beginning + json.dumps({"image": BASE64, "topk": 3}).encode()
    assert parse(text, "Application/JSON; charset=utf-8") == Request(IMAGE, Options(topk=3))
    assert parse(text, content_type) == parse(bytearray(text), content_type) == Request(IMAGE, Options(topk=3))


def test_json_as_text_is_recognized_by_its_brace() -> None:
    assert parse(f'\n{{"image": "{BASE64}"}}', "text/plain") == Request(IMAGE, Options())


def test_a_body_that_should_be_json_but_is_not() -> None:
    # TorchServe hands over the bytes if it cannot parse them.
    error = rejection(b'{"image": ', JSON)
    assert type(error) is InvalidRequest
    assert str(error) == "Body is not valid JSON although its content type is application/json"
    assert str(rejection(b'{"image": ')) == "Body is not valid JSON although it begins with '{'"


def test_json_that_was_sent_as_a_form() -> None:
    error = rejection(Form({'{"image": "AAAA': b'"}'}))
    assert str(error) == "Body is JSON sent as a form; send it with Content-Type: application/json"


# ----------------------------------------------------------------------------- base64 in forms


@pytest.mark.parametrize(
    "value",
    [
        BASE64.encode(),
        bytearray(BASE64.encode()),
        f"data:image/png;base64,{BASE64}".encode(),
        f" data:image/png;base64,{BASE64}\n".encode(),
        f"{BASE64[:8]}\r\n{BASE64[8:]}\n".encode(),
    ],
    ids=["base64", "bytearray", "data url", "data url with white space", "lines"],
)
@pytest.mark.parametrize("name", ["data", "image", "body"])
def test_base64_in_a_form(name: str, value: bytes) -> None:
    assert parse(Form({name: value, "topk": b"3"})) == Request(IMAGE, Options(topk=3))


@pytest.mark.parametrize("value", [b"", b" ", b"hello", b"AAA=A", b"BM6\x00", b"data:,", b"GIF89a;"])
def test_other_bytes_in_a_form_are_a_file(value: bytes) -> None:
    assert parse(Form({"data": value})).image == value


def test_base64_as_a_raw_body_is_a_file() -> None:
    assert parse(BASE64.encode()).image == BASE64.encode()


# ----------------------------------------------------------------------------- compression


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("X-GZIP", gzip.compress),
        ("deflate", zlib.compress),
        (" Deflate ", raw_deflate),
        ("identity", bytes),
        ("", bytes),
    ],
)
@pytest.mark.parametrize("body", [IMAGE, json.dumps({"image": BASE64}).encode()], ids=["image", "json"])
def test_a_compressed_body(body: bytes, encoding: str, compress: Callable[[bytes], bytes]) -> None:
    assert parse(bytearray(compress(body)), content_encoding=encoding).image == IMAGE


@pytest.mark.parametrize(
    ("body", "encoding", "status", "code", "reason"),
    [
        (IMAGE, "br", 415, "unsupported_encoding", "must be one of gzip, deflate, or absent; got 'br'"),
        (IMAGE, "gzip, gzip", 415, "unsupported_encoding", "got 'gzip, gzip'"),
        (IMAGE, "gzip", 400, "invalid_request", "not valid gzip"),
        (IMAGE, "deflate", 400, "invalid_request", "not valid deflate"),
        (b"", "gzip", 400, "invalid_request", "truncated"),
        (gzip.compress(IMAGE)[:-1], "gzip", 400, "invalid_request", "truncated"),
        (gzip.compress(IMAGE) + b"x", "gzip", 400, "invalid_request", "data after its end"),
        (gzip.compress(bytes(MAX_UNPACKED + 1)), "gzip", 413, "image_too_large", "more than 10,000 bytes"),
        (gzip.compress(bytes(2**26)), "gzip", 413, "image_too_large", "more than 10,000 bytes"),
    ],
    # Not of the bodies: a gzip header has the time, and pytest-xdist needs the same names in every process.
    ids=["br", "twice", "no gzip", "no deflate", "empty", "truncated", "longer", "limit", "bomb"],
)
def test_a_compressed_body_is_rejected(body: bytes, encoding: str, status: int, code: str, reason: str) -> None:
    error = rejection(body, content_encoding=encoding)
    assert (error.status, error.code) == (status, code)
    assert reason in str(error)


def test_decompression_is_bounded() -> None:
    assert len(parse(gzip.compress(bytes(MAX_UNPACKED)), content_encoding="gzip").image) == MAX_UNPACKED
    bomb = gzip.compress(bytes(2**27))
    tracemalloc.start()
    try:
        rejection(bomb, content_encoding="gzip")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


# ----------------------------------------------------------------------------- messages


def test_a_long_value_is_quoted_in_part() -> None:
    assert len(str(rejection({"image": list(range(10_000))}))) < 200


def test_a_deeply_nested_image_is_rejected() -> None:
    image: Any = []
    for _ in range(100_000):
        image = [image]
    try:
        assert type(rejection({"image": image})) is InvalidRequest
    finally:
        while image:  # or Python's stack would overflow when it frees the list
            (image,) = image


# ----------------------------------------------------------------------------- options


@pytest.mark.parametrize("spelling", ["Gradcam-Topk", "gradcam-topk", "GRADCAM-TOPK"])
def test_headers_are_options_in_any_case(spelling: str) -> None:
    payload = torchserve_rows.payload({"body": IMAGE}, {spelling: "3"})
    assert dispatch.parse(payload, MODEL, 32, MAX_UNPACKED).requests == [Request(IMAGE, Options(topk=3))]


@pytest.mark.parametrize("spelling", ["Accept", "accept", "ACCEPT"])
def test_accept_in_any_case(spelling: str) -> None:
    payload = torchserve_rows.payload({"body": IMAGE}, {spelling: "image/png"})
    assert dispatch.parse(payload, MODEL, 32, MAX_UNPACKED).requests == [Request(IMAGE, Options(), "png")]


def test_all_options_as_headers() -> None:
    headers = {
        "host": "localhost",
        "x_gradcam_topk": "9",
        "gradcam_topk": "3",
        "gradcam_targets": "281,285",
        "gradcam_method": "gradcam",
        "gradcam_layer": "layer3.1.conv2",
        "gradcam_versus": "tabby",
        "gradcam_smooth": "true",
        "gradcam_heatmap": "none",
        "gradcam_boxes": "0.25",
        "gradcam_overlay": "jpeg",
        "gradcam_style": "gray",
        "gradcam_colormap": "viridis",
        "gradcam_alpha": "0.5",
        "gradcam_caption": "true",
    }
    expected = Options(
        topk=3,
        targets=(281, 285),
        method="gradcam",
        layer=("layer3.1.conv2",),
        versus="tabby",
        smooth=True,
        heatmap="none",
        boxes=0.25,
        overlay="jpeg",
        style="gray",
        colormap="viridis",
        alpha=0.5,
        caption=True,
    )
    assert parse(IMAGE, **headers).options == expected


def test_all_options_as_form_fields() -> None:
    form = Form(
        {
            "data": IMAGE,
            "topk": b"3",
            "explain": b"0",
            "method": b" gradcam ",
            "layer": "layer3",
            "versus": b"281",
            "heatmap": b"grid",
            "boxes": b"1",
            "overlay": bytearray(b"png"),
            "style": b"outline",
            "colormap": b"hot",
            "alpha": b"1",
            "caption": b"0",
        }
    )
    expected = Options(
        topk=3,
        explain=0,
        method="gradcam",
        layer=("layer3",),
        versus=281,
        boxes=1.0,
        overlay="png",
        style="outline",
        colormap="hot",
        alpha=1.0,
    )
    assert parse(form) == Request(IMAGE, expected, None)


def test_a_field_replaces_a_header() -> None:
    assert parse(Form({"data": IMAGE, "topk": b"7"}), gradcam_topk="3").options.topk == 7


def test_a_field_replaces_the_header_that_it_excludes() -> None:
    options = parse(Form({"data": IMAGE, "targets": b"1"}), gradcam_explain="2").options
    assert (options.targets, options.explain) == ((1,), None)


def test_headers_that_exclude_each_other() -> None:
    error = rejection(IMAGE, gradcam_targets="1", gradcam_explain="2")
    assert type(error) is InvalidOption
    assert "'targets' and 'explain'" in str(error)


def test_an_unknown_option_in_a_header() -> None:
    assert "Unknown option 'foo'" in str(rejection(IMAGE, gradcam_foo="1"))


def test_a_form_is_never_a_protocol_of_kserve() -> None:
    error = rejection(Form({"data": IMAGE, "instances": b"[]"}))
    assert (type(error), str(error)[:26]) == (InvalidOption, "Unknown option 'instances'")


# ----------------------------------------------------------------------------- size


@pytest.mark.parametrize("body", [{"instances": [BASE64]}, infer(BASE64), {"image": BASE64}])
def test_a_reply_that_exceeds_the_limit_is_rejected(body: Any) -> None:
    group = kserve.parse(body)
    (request,) = group.requests
    assert isinstance(request, Request)
    reply = group.reply([hats(request)])

    assert dispatch.render(group, [hats(request)], len(reply.body)) == reply
    limited = dispatch.render(group, [hats(request)], len(reply.body) - 1)

    (error,) = limited.errors
    assert isinstance(error, TooLarge)
    assert (limited.status, error.code) == (413, "answer_too_large")
    assert f"got {len(reply.body):,};" in str(error)
    document = json.loads(str(limited.body))
    assert (document if "code" in document else document["error"])["code"] == "answer_too_large"


def test_a_reply_has_no_further_headers() -> None:
    group = kserve.parse({"image": BASE64})
    (request,) = group.requests
    assert isinstance(request, Request)
    assert dispatch.render(group, [hats(request)], NO_LIMIT).headers == {}
