"""Decoding, compared with arrays written by hand."""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gradcam.errors import RequestError, TooLarge, UndecodableImage, UnsupportedImage
from gradcam.images.decoding import decode
from gradcam.images.pixels import RawPixels
from tests.support import hostile
from tests.support.encoding import encoded, png_chunk
from tests.support.image_files import (
    SETTINGS,
    Pixels,
    decoded,
    decoded_or_rejected,
    noise,
    png,
    png_header,
    rejected,
    row,
    smooth,
    tiff,
)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("PNG", {"compress_level": 0}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ],
)
def test_rgb_is_decoded_to_its_pixels(kind: str, options: dict[str, Any]) -> None:
    pixels = noise()
    assert np.array_equal(decoded(encoded(pixels, kind, **options)), pixels)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_transparency_is_dropped(kind: str, options: dict[str, Any]) -> None:
    pixels = noise(channels=4)
    pixels[0, 0, 3], pixels[0, 1, 3] = 0, 255
    assert np.array_equal(decoded(encoded(pixels, kind, **options)), pixels[..., :3])


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_grayscale_becomes_three_equal_channels(kind: str) -> None:
    gray = noise(channels=1)[..., 0]
    assert np.array_equal(decoded(encoded(gray, kind)), np.stack([gray] * 3, axis=-1))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grayscale_with_alpha_loses_the_alpha(kind: str) -> None:
    gray = noise(channels=2)
    assert np.array_equal(decoded(encoded(Image.fromarray(gray, "LA"), kind)), np.stack([gray[..., 0]] * 3, axis=-1))


PALETTE = bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7])

PALETTE_ROW = row((255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 8, 7))

PLTE = png_chunk(b"PLTE", PALETTE)


@pytest.mark.parametrize(
    "transparency",
    [b"", png_chunk(b"tRNS", b"\0"), png_chunk(b"tRNS", b"\xff\0\x80\x40")],
    ids=["opaque", "one color transparent", "an alpha for each color"],
)
def test_palette(transparency: bytes) -> None:
    assert np.array_equal(decoded(png(4, 8, 3, b"\0\1\2\3", PLTE + transparency)), PALETTE_ROW)


def test_palette_of_two_bits() -> None:
    assert np.array_equal(decoded(png(4, 2, 3, bytes([0b00_01_10_11]), PLTE)), PALETTE_ROW)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
def test_palette_in_other_formats(kind: str) -> None:
    image = Image.frombytes("P", (4, 1), b"\0\1\2\3")
    image.putpalette(PALETTE)
    assert np.array_equal(decoded(encoded(image, kind)), PALETTE_ROW)


def test_gif_with_a_transparent_color() -> None:
    image = Image.frombytes("P", (4, 1), b"\0\1\2\3")
    image.putpalette(PALETTE)
    assert np.array_equal(decoded(encoded(image, "GIF", transparency=1)), PALETTE_ROW)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_one_bit(kind: str) -> None:
    image = Image.frombytes("1", (8, 1), bytes([0b10100101]))
    assert np.array_equal(decoded(encoded(image, kind)), row(255, 0, 255, 0, 0, 255, 0, 255))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(3, 16, 0, b"\x01\xff\x02\xfe\xff\x01"), row(1, 2, 255)),
        (png(2, 16, 0, b"\x01\xff\xff\xff", png_chunk(b"tRNS", b"\x01\xff")), row(1, 255)),
        (png(1, 16, 2, b"\x01\xff\x02\xfe\xff\x01"), row((1, 2, 255))),
        (png(1, 16, 4, b"\x01\xff\x02\xfe"), row(1)),
        (png(1, 16, 6, b"\x01\xff\x02\xfe\xff\x01\0\0"), row((1, 2, 255))),
        (tiff(2, [16], 1, b"\x01\xf0\xff\x10"), row(240, 16)),
        (tiff(2, [16], 1, b"\xf0\x01\x10\xff", order=">"), row(240, 16)),
        (tiff(1, [16] * 3, 2, b"\x01\xf0\x02\xf1\x03\xf2"), row((240, 241, 242))),
        (tiff(1, [16] * 3, 2, b"\xf0\x01\xf1\x02\xf2\x03", order=">"), row((240, 241, 242))),
    ],
    ids=[
        "png gray",
        "png gray trns",
        "png rgb",
        "png la",
        "png rgba",
        "tiff ii",
        "tiff mm",
        "tiff rgb ii",
        "tiff rgb mm",
    ],
)
def test_sixteen_bits_become_the_upper_eight(data: bytes, expected: Pixels) -> None:
    assert np.array_equal(decoded(data), expected)


def test_tiff_in_which_white_is_zero() -> None:
    assert np.array_equal(decoded(tiff(2, [8], 0, b"\xf0\x10")), row(15, 239))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (tiff(2, [12], 1, b"\xff\xf8\x00"), row(255, 128)),
        (tiff(2, [16], 0, b"\x00\xf0\x00\x10"), row(15, 239)),
        (tiff(2, [32], 1, b"\xff\xff\xff\xff\0\0\0\x80"), row(255, 128)),
        (tiff(2, [32], 1, b"\xff\xff\xff\x7f\0\0\0\x40", kind=2), row(255, 128)),
    ],
    ids=["12 bits", "16 bits, white is zero", "32 bits unsigned", "32 bits signed"],
)
def test_unusual_depth_is_decoded_correctly_or_rejected(data: bytes, expected: Pixels) -> None:
    outcome = decoded_or_rejected(data)
    if isinstance(outcome, RequestError):
        assert isinstance(outcome, UnsupportedImage)
        assert "16 bits" in str(outcome)
    else:
        assert np.array_equal(outcome, expected)


def test_cmyk_tiff() -> None:
    inks = np.array([[(0, 255, 255, 0), (255, 0, 255, 0), (0, 0, 0, 255), (0, 0, 0, 0)]], dtype=np.uint8)
    expected = row((255, 0, 0), (0, 255, 0), 0, 255)
    assert np.array_equal(decoded(encoded(Image.fromarray(inks, "CMYK"), "TIFF")), expected)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("WEBP", {"quality": 95}),
        ("TIFF", {"compression": "jpeg", "quality": 95}),
    ],
)
def test_lossy_rgb_is_close(kind: str, options: dict[str, Any]) -> None:
    pixels = smooth()
    difference = np.abs(decoded(encoded(pixels, kind, **options)).astype(int) - pixels)
    assert difference.mean() < 2.5
    assert difference.max() < 25


def test_grayscale_jpeg_is_close() -> None:
    gray = smooth()[..., 0]
    pixels = decoded(encoded(gray, "JPEG", quality=95))
    assert np.abs(pixels.astype(int) - gray[..., None]).max() < 6


@pytest.mark.parametrize(
    ("ink", "expected"),
    [
        ((0, 255, 255, 0), (255, 0, 0)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((0, 0, 0, 0), (255,) * 3),
    ],
    ids=["red", "cyan", "black", "paper"],
)
def test_cmyk_jpeg(ink: tuple[int, ...], expected: tuple[int, ...]) -> None:
    pixels = decoded(encoded(Image.new("CMYK", (16, 16), ink), "JPEG", quality=95))
    assert np.abs(pixels.astype(int) - expected).max() <= 3


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("GIF", {}), ("MPO", {"quality": 95})],
)
def test_first_of_several_images_is_decoded(kind: str, options: dict[str, Any]) -> None:
    first, second = (Image.new("RGB", (16, 16), color) for color in ((200, 30, 40), (10, 220, 90)))
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    with Image.open(io.BytesIO(data)) as image:
        assert getattr(image, "n_frames", 1) == 2
    pixels = decoded(data)
    assert pixels.shape == (16, 16, 3)
    assert np.abs(pixels.astype(int) - (200, 30, 40)).max() <= (4 if kind == "MPO" else 0)


def test_corrupt_second_frame_is_ignored() -> None:
    first, second = (Image.fromarray(noise(seed=seed)) for seed in (0, 1))
    data = encoded(first, "TIFF", save_all=True, append_images=[second])
    assert np.array_equal(decoded(data[:-20]), noise(seed=0))


FORMATS: dict[str, dict[str, Any]] = {"JPEG": {}, "PNG": {}, "WEBP": {}, "BMP": {}, "GIF": {}, "TIFF": {}}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", FORMATS)
def test_truncated_image_is_reported_as_truncated(kind: str, share: float) -> None:
    data = encoded(noise(60, 80), kind)
    error = rejected(data[: int(share * len(data))])
    assert (type(error), error.code, error.status) == (UndecodableImage, "undecodable_image", 400)
    assert "truncated" in str(error)


@pytest.mark.parametrize("options", [{"compression": "tiff_lzw"}, {"compression": "jpeg"}], ids=["lzw", "jpeg"])
def test_truncated_tiff_with_its_directory_at_the_end(options: dict[str, Any]) -> None:
    data = encoded(noise(60, 80), "TIFF", **options)
    assert "truncated" in str(rejected(data[: len(data) // 2]))


@pytest.mark.parametrize("kind", FORMATS)
def test_image_truncated_in_its_header_is_reported_as_truncated(kind: str) -> None:
    error = rejected(encoded(noise(60, 80), kind)[:20])
    assert (type(error), error.code, error.status) == (UndecodableImage, "undecodable_image", 400)
    assert "truncated" in str(error)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_truncation_yields_an_image_or_a_request_error(kind: str) -> None:
    data = encoded(noise(12, 16), kind)
    complete = decoded(data)
    for length in range(len(data) + 1):
        outcome = decoded_or_rejected(data[:length])
        if isinstance(outcome, RequestError):
            assert (type(outcome), length < len(data)) == (UndecodableImage, True)
            assert "send JPEG, PNG, WebP, BMP, GIF, or TIFF" in str(outcome)
        else:
            assert np.array_equal(outcome, complete)
            assert length > 0.9 * len(data)


@pytest.mark.parametrize("kind", FORMATS)
def test_random_damage_yields_an_image_or_a_request_error(kind: str) -> None:
    generator, complete = np.random.default_rng(0), encoded(noise(12, 16), kind)
    small = dataclasses.replace(SETTINGS, max_image_pixels=100_000)
    for _ in range(200):
        data = bytearray(complete)
        for position in generator.integers(0, len(data), 4):
            data[position] = generator.integers(0, 256)
        outcome = decoded_or_rejected(bytes(data), small)
        assert isinstance(outcome, RequestError) or outcome.ndim == 3


@pytest.mark.parametrize(
    "data",
    [
        png_header(0, 0) + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b""),
        b"GIF89a" + struct.pack("<HHBBB", 0, 0, 0, 0, 0) + b",\0\0\0\0\0\0\0\0\0\2\0;",
        tiff(0, [8], 1, b""),
    ],
    ids=["png", "gif", "tiff"],
)
def test_image_without_pixels(data: bytes) -> None:
    assert type(rejected(data)) is UndecodableImage


@pytest.mark.parametrize("kind", [1, 2, 5, 7, 12], ids=["byte", "text", "ratio", "undefined", "double"])
def test_tiff_whose_depth_is_not_a_number(kind: int) -> None:
    number, other = (struct.pack("<HHI", 258, form, 1) for form in (3, kind))
    data = hostile.tiff_gray(4, 4, 1, bytes(16)).replace(number, other)
    assert other in data
    assert type(rejected(data)) is UndecodableImage


# ----------------------------------------------------------------------------- raw pixels


def test_raw_pixels_are_unchanged() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    image = decode(RawPixels(30, 20, pixels.tobytes()), SETTINGS)
    assert (image.width, image.height, image.image.mode) == (30, 20, "RGB")
    assert (np.asarray(image.image) == pixels).all()


def test_raw_pixels_above_the_limit_are_rejected() -> None:
    limited = dataclasses.replace(SETTINGS, max_image_pixels=599)
    with pytest.raises(TooLarge, match=r"^Image has 30 × 20 = 600 pixels, the limit is 599$"):
        decode(RawPixels(30, 20, bytes(1800)), limited)
