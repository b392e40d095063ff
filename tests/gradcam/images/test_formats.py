"""Unsupported formats and files that are not images."""

from __future__ import annotations

import pytest
from PIL import Image

from gradcam.errors import UndecodableImage, UnsupportedImage
from gradcam.images.decoding import decode
from tests.support.encoding import encoded
from tests.support.image_files import (
    SETTINGS,
    noise,
    rejected,
    tiff,
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty (0 bytes)"),
        (b"\0", "File is not an image (1 bytes)"),
        (b"hello, world\n" * 100, "File is not an image (1,300 bytes)"),
        (b'{"image": "AAAA"}', "not an image"),
        (b"<!DOCTYPE html><html></html>", "not an image"),
        (b"\0" * 1000, "not an image"),
        (b"\xff" * 1000, "not an image"),
        (b"P6 1 1 255 abc", "not an image"),
    ],
    ids=["empty", "one byte", "text", "json", "html", "zeros", "ones", "ppm"],
)
def test_file_that_is_not_an_image(data: bytes, message: str) -> None:
    error = rejected(data)
    assert (type(error), error.code, error.status) == (UndecodableImage, "undecodable_image", 400)
    assert message in str(error)
    assert str(error).endswith("send JPEG, PNG, WebP, BMP, GIF, or TIFF")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "PDF"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "AVIF"),
        (b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0", "ICO"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"8BPS\0\1", "Photoshop"),
        (b"\0" * 128 + b"DICM", "DICOM"),
    ],
)
def test_unsupported_format_is_named(data: bytes, name: str) -> None:
    error = rejected(data)
    assert (type(error), error.code, error.status) == (UnsupportedImage, "unsupported_image", 415)
    assert str(error) == f"{name} is not supported; send JPEG, PNG, WebP, BMP, GIF, or TIFF"


@pytest.mark.parametrize("kind", ["AVIF", "ICO", "JPEG2000", "PPM"])
def test_format_that_only_pillow_supports_is_rejected(kind: str) -> None:
    with pytest.raises((UnsupportedImage, UndecodableImage)):
        decode(encoded(noise(16, 16), kind), SETTINGS)


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.new("F", (3, 2), 0.5), "TIFF"),
        tiff(1, [32], 1, b"\0\0\x80\x3f", kind=3),
        tiff(1, [64], 1, b"\0" * 8, kind=3),
        tiff(1, [32] * 3, 2, b"\0\0\x80\x3f" * 3, kind=3),
    ],
    ids=["pillow", "float32", "float64", "rgb float32"],
)
def test_floating_point_tiff_is_unsupported(data: bytes) -> None:
    error = rejected(data)
    assert (type(error), error.code, error.status) == (UnsupportedImage, "unsupported_image", 415)
    assert "16 bits" in str(error)
