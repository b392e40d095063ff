"""Invalid requests: the status, code, and message of each error; the worker survives."""

from __future__ import annotations

import base64
import struct
import zlib
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from tests.support import http_client
from tests.support.encoding import encoded
from tests.support.served import Call, Model, check, error, parsed, sample

PIXELS = sample(31)
IMAGE = encoded(PIXELS)
BASE64 = base64.b64encode(IMAGE).decode()


def png_header(width: int, height: int) -> bytes:
    """Return the beginning of a PNG that claims this size, without pixel data."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + b"\0\0\1\0IDAT"


# ----------------------------------------------------------------------------- images

BAD_IMAGES: dict[str, tuple[bytes, int, str, str]] = {
    "empty": (b"", 400, "undecodable_image", "empty"),
    "text": (b"hello, world", 400, "undecodable_image", "not an image"),
    "zeros": (bytes(1000), 400, "undecodable_image", "not an image"),
    "html": (b"<!DOCTYPE html><html></html>", 400, "undecodable_image", "JPEG, PNG, WebP, BMP, GIF, or TIFF"),
    "jpeg truncated": (encoded(PIXELS, "JPEG")[:-2000], 400, "undecodable_image", "truncated"),
    "jpeg beginning": (encoded(PIXELS, "JPEG")[:20], 400, "undecodable_image", ""),
    "png truncated": (IMAGE[: len(IMAGE) // 2], 400, "undecodable_image", "truncated"),
    "png header": (png_header(10, 10), 400, "undecodable_image", "truncated"),
    "gif truncated": (encoded(PIXELS, "GIF")[:5000], 400, "undecodable_image", ""),
    "webp truncated": (encoded(PIXELS, "WEBP")[:500], 400, "undecodable_image", ""),
    "tiff truncated": (encoded(PIXELS, "TIFF")[:5000], 400, "undecodable_image", ""),
    "bmp truncated": (encoded(PIXELS, "BMP")[:5000], 400, "undecodable_image", ""),
    "bits flipped": (IMAGE[:200] + bytes(100) + IMAGE[300:], 400, "undecodable_image", ""),
    "too many pixels": (encoded(np.zeros((8001, 8000), np.uint8)), 413, "image_too_large", "64,000,000"),
    "bomb": (png_header(2**31 - 1, 2**31 - 1), 413, "image_too_large", "64,000,000"),
    "too many bytes": (IMAGE + bytes(32 * 2**20), 413, "image_too_large", "33,554,432"),
    "floating point": (encoded(Image.new("F", (9, 9)), "TIFF"), 415, "unsupported_image", "8 or 16 bits"),
    "jpeg 2000": (encoded(PIXELS, "JPEG2000"), 415, "unsupported_image", "JPEG 2000"),
    "avif": (b"\x00\x00\x00\x20ftypavif\x00\x00\x00\x00avif", 415, "unsupported_image", "AVIF"),
    "heic": (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", 415, "unsupported_image", "HEIC"),
    "pdf": (b"%PDF-1.7\n", 415, "unsupported_image", "PDF"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415, "unsupported_image", "SVG"),
    "icon": (encoded(PIXELS[:32, :32], "ICO"), 415, "unsupported_image", "ICO"),
}


@pytest.mark.parametrize("form", [False, True], ids=["raw", "form"])
@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_bad_image_is_rejected(kind: str, form: bool, squash: Model) -> None:
    data, status, code, reason = BAD_IMAGES[kind]

    response = squash.post(Call(data, form={} if form else None))

    actual_code, message = error(response, status)
    assert actual_code == code
    assert reason in message


# ----------------------------------------------------------------------------- options

BAD_OPTIONS: list[tuple[dict[str, Any], int, str, list[str]]] = [
    ({"topk": "0"}, 400, "invalid_option", ["topk", "'0'"]),
    ({"topk": "-1"}, 400, "invalid_option", ["topk", "'-1'"]),
    ({"topk": "many"}, 400, "invalid_option", ["topk", "'many'"]),
    ({"topk": "1.5"}, 400, "invalid_option", ["topk", "'1.5'"]),
    ({"topk": "1001"}, 400, "invalid_option", ["topk", "1000"]),
    ({"topk": ""}, 400, "invalid_option", ["topk"]),
    ({"explain": "-1"}, 400, "invalid_option", ["explain", "'-1'"]),
    ({"explain": "1001"}, 400, "invalid_option", ["explain", "1000"]),
    ({"explain": "101"}, 422, "too_many_targets", ["at most 100", "101"]),
    ({"targets": ""}, 400, "invalid_option", ["targets"]),
    ({"targets": "1,,2"}, 400, "invalid_option", ["targets"]),
    ({"targets": ",".join(["7"] * 101)}, 422, "too_many_targets", ["at most 100", "101"]),
    ({"targets": "1", "explain": "1"}, 400, "invalid_option", ["targets", "explain"]),
    ({"heatmap": "full"}, 400, "invalid_option", ["heatmap", "'full'", "grid, none"]),
    ({"overlay": "gif"}, 400, "invalid_option", ["overlay", "'gif'", "png, jpeg"]),
    ({"alpha": "2"}, 400, "invalid_option", ["alpha", "'2'"]),
    ({"alpha": "nan"}, 400, "invalid_option", ["alpha", "'nan'"]),
    ({"alpha": "strong"}, 400, "invalid_option", ["alpha", "'strong'"]),
    ({"colormap": "jett"}, 400, "invalid_option", ["'jett'", "'jet'"]),
    ({"tagets": "1"}, 400, "invalid_option", ["'tagets'", "'targets'"]),
    ({"targets": "1000"}, 422, "unknown_class", ["1000", "999"]),
    ({"targets": "999999999"}, 422, "unknown_class", ["999"]),
    ({"targets": "99999999999999999999"}, 422, "unknown_class", []),
    ({"targets": "-1"}, 422, "unknown_class", ["-1"]),
    ({"targets": "tabbi"}, 422, "unknown_class", ["'tabbi'", "'tabby'"]),
    ({"targets": "281,Egyptian cart"}, 422, "unknown_class", ["'Egyptian cat'"]),
    ({"method": "gradcan"}, 422, "unknown_method", ["'gradcan'", "'gradcam'"]),
    ({"layer": "layer4.1.conv3"}, 422, "unknown_layer", ["'layer4.1.conv3'", "layer4.1.conv2"]),
]


@pytest.mark.parametrize("channel", ["headers", "form", "json"])
@pytest.mark.parametrize(
    ("options", "status", "code", "reasons"),
    BAD_OPTIONS,
    ids=[" ".join(f"{name}={value[:20]}" for name, value in options.items()) for options, *_ in BAD_OPTIONS],
)
def test_bad_option_is_rejected(
    options: dict[str, Any], status: int, code: str, reasons: list[str], channel: str, squash: Model
) -> None:
    call = {
        "headers": Call(IMAGE, {f"Gradcam-{name}": value for name, value in options.items()}),
        "form": Call(IMAGE, form=options),
        "json": Call(json={"image": BASE64, **options}),
    }[channel]

    actual_code, message = error(squash.post(call), status)

    assert actual_code == code
    assert all(reason in message for reason in reasons), message


def test_ambiguous_label_lists_both_classes(crop: Model) -> None:
    code, message = error(crop.post(Call(IMAGE, {"Gradcam-Targets": crop.labels[517]})), 422)

    assert code == "ambiguous_class"
    assert "134" in message
    assert "517" in message
    check(crop.predict(IMAGE, targets="517,134"), crop, PIXELS, [517, 134])


def test_overlay_without_explanations_is_rejected(squash: Model) -> None:
    headers = {"Accept": "image/png", "Gradcam-Explain": "0"}

    assert error(squash.post(Call(IMAGE, headers)), 400)[0] == "invalid_option"


def test_error_is_json_regardless_of_accept(squash: Model) -> None:
    assert error(squash.post(Call(b"not an image", {"Accept": "image/png"})), 400)[0] == "undecodable_image"


# ----------------------------------------------------------------------------- JSON and forms

JSON = {"Content-Type": "application/json"}
BAD_REQUESTS: dict[str, tuple[Call, str, str]] = {
    "no json": (Call(b'{"image": ', JSON), "invalid_request", "not valid JSON"),
    "json in latin-1": (Call(b'{"image": "\xe9"}', JSON), "invalid_request", "not valid JSON"),
    "deep json": (Call(b"[" * 100_000, JSON), "invalid_request", "not valid JSON"),
    "a number too long": (Call(b'{"image": ' + b"9" * 10_000 + b"}", JSON), "invalid_request", "not valid JSON"),
    "list": (Call(b"[1, 2]", JSON), "invalid_request", "[1, 2]"),
    "object without image": (Call(json={"targets": [1]}), "invalid_request", "no image"),
    "image is a number": (Call(json={"image": 7}), "invalid_request", "7"),
    "image is null": (Call(json={"image": None}), "invalid_request", "None"),
    "image is a list": (Call(json={"image": [255, 216]}), "invalid_request", "[255, 216]"),
    "image is no base64": (Call(json={"image": "no base64!"}), "invalid_request", "base64"),
    "image is a surrogate": (Call(b'{"image": "\\ud800"}', JSON), "invalid_request", "base64"),
    "bare string": (Call(b'"no base64!"', JSON), "invalid_request", "base64"),
    "bare null": (Call(b"null", JSON), "invalid_request", "None"),
    "unknown member": (Call(json={"image": BASE64, "taget": 1}), "invalid_option", "'taget'"),
    "topk is a list": (Call(json={"image": BASE64, "topk": [1]}), "invalid_option", "[1]"),
    "topk is true": (Call(json={"image": BASE64, "topk": True}), "invalid_option", "True"),
    "topk is infinite": (Call(b'{"image": "%s", "topk": 1e999}' % BASE64.encode(), JSON), "invalid_option", "inf"),
    "alpha is not a number": (Call(b'{"image": "%s", "alpha": NaN}' % BASE64.encode(), JSON), "invalid_option", "nan"),
    "targets hold null": (Call(json={"image": BASE64, "targets": [None]}), "invalid_option", "None"),
    "targets are an object": (Call(json={"image": BASE64, "targets": {"a": 1}}), "invalid_option", "{'a': 1}"),
    "targets are none": (Call(json={"image": BASE64, "targets": []}), "invalid_option", "targets"),
    "method is a number": (Call(json={"image": BASE64, "method": 1}), "invalid_option", "method"),
    "form without image": (Call(form={"topk": "3"}), "invalid_request", "no image"),
    "broken form": (Call(b"--x\r\n", {"Content-Type": "multipart/form-data; boundary=x"}), "invalid_request", ""),
    "text": (Call(b"hello", {"Content-Type": "text/plain"}), "", ""),
    "option in latin-1": (Call(IMAGE, {"Gradcam-Topk": "\xe9"}), "invalid_option", "topk"),
}


@pytest.mark.parametrize("kind", BAD_REQUESTS)
def test_bad_request_is_rejected(kind: str, squash: Model) -> None:
    call, code, reason = BAD_REQUESTS[kind]

    actual_code, message = error(squash.post(call), 400)

    assert actual_code.startswith(code)
    assert reason in message


def test_huge_numbers_in_json_are_rejected(squash: Model) -> None:
    assert error(squash.post(Call(json={"image": BASE64, "topk": 10**30})), 400)[0] == "invalid_option"
    assert error(squash.post(Call(json={"image": BASE64, "alpha": 10**400})), 400)[0] == "invalid_option"
    assert error(squash.post(Call(json={"image": BASE64, "targets": 10**30})), 422)[0] == "unknown_class"
    assert error(squash.post(Call(json={"image": BASE64, "targets": [-1]})), 422)[0] == "unknown_class"


def test_surrogate_in_a_label_is_rejected(squash: Model) -> None:
    call = Call(b'{"image": "%s", "targets": "\\ud800"}' % BASE64.encode(), JSON)

    assert error(squash.post(call), 422)[0] == "unknown_class"


def test_non_ascii_label_appears_in_the_message(squash: Model) -> None:
    for call in (Call(IMAGE, form={"targets": "猫 🐈"}), Call(json={"image": BASE64, "targets": "猫 🐈"})):
        code, message = error(squash.post(call), 422)
        assert code == "unknown_class"
        assert "'猫 🐈'" in message


def test_form_field_that_is_not_utf8_is_rejected(squash: Model) -> None:
    fields = {"data": ("image", IMAGE, "application/octet-stream"), "targets": ("t", b"\xff\xfe", "image/png")}
    response = http_client.post(f"{squash.server.inference_url}/predictions/squash", files=fields)

    code, message = error(response, 400)
    assert code == "invalid_option"
    assert "UTF-8" in message


# ----------------------------------------------------------------------------- the content type is ignored


@pytest.mark.parametrize("content_type", ["image/png", "image/jpeg", "application/octet-stream", "text/plain", "x/y"])
def test_raw_image_with_any_content_type(content_type: str, squash: Model) -> None:
    check(parsed(squash.post(Call(IMAGE, {"Content-Type": content_type}))), squash, PIXELS)


@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream", "text/plain", "x/y"])
def test_form_image_with_any_content_type(content_type: str, squash: Model) -> None:
    url = f"{squash.server.inference_url}/predictions/squash"
    response = http_client.post(url, files={"data": ("some.txt", IMAGE, content_type)})

    check(parsed(response), squash, PIXELS)


# ----------------------------------------------------------------------------- TorchServe's own errors


def test_unknown_model_is_answered_404_by_torchserve(squash: Model) -> None:
    response = http_client.post(f"{squash.server.inference_url}/predictions/nothing", data=IMAGE)

    assert response.status_code == 404
    assert response.json() == {
        "code": 404,
        "type": "ModelNotFoundException",
        "message": "Model not found: nothing",
    }


def test_disconnecting_client_does_not_affect_others(squash: Model) -> None:
    address = urlsplit(squash.server.inference_url)
    for sent in (IMAGE, IMAGE[:100]):
        connection = HTTPConnection(address.hostname or "", address.port, timeout=10)
        connection.putrequest("POST", "/predictions/squash")
        connection.putheader("Content-Length", str(len(IMAGE)))
        connection.endheaders()
        connection.send(sent)
        connection.close()

    check(squash.predict(IMAGE), squash, PIXELS)
