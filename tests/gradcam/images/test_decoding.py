"""Decoding against arrays written by hand; the model input against torchvision's own transforms."""

from __future__ import annotations

import dataclasses
import io
import multiprocessing
import resource
import signal
import struct
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from gradcam.errors import RequestError, TooExpensive, TooLarge, UndecodableImage, UnsupportedImage
from gradcam.images import limits
from gradcam.images.decoding import decode
from gradcam.images.geometry import CropGeometry, Region
from gradcam.images.model_input import model_input, normalize
from gradcam.settings import Settings
from tests.support import hostile
from tests.support.encoding import encoded, png_chunk
from tests.support.settings import settings

Pixels = NDArray[np.uint8]

SETTINGS = settings()
CROP = dataclasses.replace(SETTINGS, transform="crop")


# ----------------------------------------------------------------------------- files, made by hand


def noise(height: int = 5, width: int = 7, channels: int = 3, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height: int = 48, width: int = 64) -> Pixels:
    """What survives lossy compression: no edges."""
    y, x = np.mgrid[0:height, 0:width]
    channels = (255 * x / (width - 1), 255 * y / (height - 1), 255 * (1 - x / (width - 1)))
    return np.stack(channels, axis=-1).astype(np.uint8)


def png_header(width: int, height: int, bits: int = 8, color: int = 2) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))


def png(width: int, bits: int, color: int, row: bytes, extra: bytes = b"") -> bytes:
    """Returns a PNG of one row; `color` is 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA."""
    data = png_chunk(b"IDAT", zlib.compress(b"\0" + row))
    return png_header(width, 1, bits, color) + extra + data + png_chunk(b"IEND", b"")


def tiff(width: int, bits: Sequence[int], photometric: int, row: bytes, kind: int = 1, order: str = "<") -> bytes:
    """Returns a TIFF of one row; `photometric` is 0 white is zero, 1 black is zero, 2 RGB; `kind` 3 is float."""
    count = 11
    after = 8 + 2 + 12 * count + 4
    many = len(bits) > 2
    data_at = after + (4 * len(bits) if many else 0)
    tags = {
        256: (4, (width,)),
        257: (4, (1,)),
        258: (3, tuple(bits)),
        259: (3, (1,)),
        262: (3, (photometric,)),
        273: (4, (data_at,)),
        277: (3, (len(bits),)),
        278: (4, (1,)),
        279: (4, (len(row),)),
        296: (3, (1,)),
        339: (3, (kind,) * len(bits)),
    }
    entries, outside = b"", b""
    for tag, (form, values) in tags.items():
        packed = struct.pack(f"{order}{len(values)}{'H' if form == 3 else 'I'}", *values)
        if len(packed) > 4:
            packed, outside = struct.pack(order + "I", after + len(outside)), outside + packed
        entries += struct.pack(order + "HHI", tag, form, len(values)) + packed.ljust(4, b"\0")
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "IH", 8, count) + entries + b"\0\0\0\0" + outside + row


def exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    """Returns an EXIF block of (tag, type, count, value) entries."""
    packed = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3].ljust(4, b"\0") for entry in sorted(entries))
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + packed + b"\0\0\0\0"


def orientation(value: int) -> tuple[int, int, int, bytes]:
    return 0x0112, 3, 1, struct.pack("<H", value)


def decoded(data: bytes, settings: Settings = SETTINGS) -> Pixels:
    picture = decode(data, settings)
    assert picture.image.mode == "RGB"
    assert picture.image.size == (picture.width, picture.height)
    return np.asarray(picture.image)


def refused(data: bytes, settings: Settings = SETTINGS) -> RequestError:
    with pytest.raises(RequestError) as raised:
        decode(data, settings)
    return raised.value


def decoded_or_refused(data: bytes, settings: Settings = SETTINGS) -> Pixels | RequestError:
    try:
        return decoded(data, settings)
    except RequestError as error:
        return error


def row(*values: int | tuple[int, int, int]) -> Pixels:
    """Returns one row of RGB pixels; a number alone is a grey."""
    return np.array([[value if isinstance(value, tuple) else (value,) * 3 for value in values]], dtype=np.uint8)


# ----------------------------------------------------------------------------- decoding: lossless


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
def test_grey_becomes_three_equal_channels(kind: str) -> None:
    grey = noise(channels=1)[..., 0]
    assert np.array_equal(decoded(encoded(grey, kind)), np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_with_alpha_loses_the_alpha(kind: str) -> None:
    grey = noise(channels=2)
    assert np.array_equal(decoded(encoded(Image.fromarray(grey, "LA"), kind)), np.stack([grey[..., 0]] * 3, axis=-1))


PALETTE = bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7])
PALETTE_ROW = row((255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 8, 7))
PLTE = png_chunk(b"PLTE", PALETTE)


@pytest.mark.parametrize(
    "transparency",
    [b"", png_chunk(b"tRNS", b"\0"), png_chunk(b"tRNS", b"\xff\0\x80\x40")],
    ids=["opaque", "one colour transparent", "an alpha for each colour"],
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


def test_gif_with_a_transparent_colour() -> None:
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
        "png grey",
        "png grey trns",
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
def test_unusual_depths_are_right_or_refused(data: bytes, expected: Pixels) -> None:
    outcome = decoded_or_refused(data)
    if isinstance(outcome, RequestError):
        assert isinstance(outcome, UnsupportedImage)
        assert "16 bits" in str(outcome)
    else:
        assert np.array_equal(outcome, expected)


def test_cmyk_tiff() -> None:
    inks = np.array([[(0, 255, 255, 0), (255, 0, 255, 0), (0, 0, 0, 255), (0, 0, 0, 0)]], dtype=np.uint8)
    expected = row((255, 0, 0), (0, 255, 0), 0, 255)
    assert np.array_equal(decoded(encoded(Image.fromarray(inks, "CMYK"), "TIFF")), expected)


# ----------------------------------------------------------------------------- decoding: lossy


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


def test_grey_jpeg_is_close() -> None:
    grey = smooth()[..., 0]
    pixels = decoded(encoded(grey, "JPEG", quality=95))
    assert np.abs(pixels.astype(int) - grey[..., None]).max() < 6


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


# ----------------------------------------------------------------------------- decoding: several pictures in one file


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("GIF", {}), ("MPO", {"quality": 95})],
)
def test_of_several_pictures_the_first_is_taken(kind: str, options: dict[str, Any]) -> None:
    first, second = (Image.new("RGB", (16, 16), color) for color in ((200, 30, 40), (10, 220, 90)))
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    with Image.open(io.BytesIO(data)) as image:
        assert getattr(image, "n_frames", 1) == 2
    pixels = decoded(data)
    assert pixels.shape == (16, 16, 3)
    assert np.abs(pixels.astype(int) - (200, 30, 40)).max() <= (4 if kind == "MPO" else 0)


def test_a_broken_second_frame_does_not_matter() -> None:
    first, second = (Image.fromarray(noise(seed=seed)) for seed in (0, 1))
    data = encoded(first, "TIFF", save_all=True, append_images=[second])
    assert np.array_equal(decoded(data[:-20]), noise(seed=0))


# ----------------------------------------------------------------------------- decoding: orientation

# What EXIF 2.32, table 6 says: where row 0 and column 0 of the stored picture stand in the upright one.
UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: stored[::-1].transpose(1, 0, 2),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: stored[:, ::-1].transpose(1, 0, 2),
}


@pytest.mark.parametrize("value", UPRIGHT)
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_lossless_pictures_are_turned_as_exif_says(kind: str, options: dict[str, Any], value: int) -> None:
    stored = noise(3, 4)
    tags = Image.Exif()
    tags[0x0112] = value
    assert np.array_equal(decoded(encoded(stored, kind, exif=tags, **options)), UPRIGHT[value](stored))


@pytest.mark.parametrize("value", UPRIGHT)
@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
def test_photographs_are_turned_as_exif_says(kind: str, value: int) -> None:
    stored = smooth()
    more = {"save_all": True, "append_images": [Image.fromarray(noise(48, 64))]} if kind == "MPO" else {}
    pixels = decoded(encoded(stored, kind, quality=95, subsampling=0, exif=exif(orientation(value)), **more))
    expected = UPRIGHT[value](stored)
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() < 2.5


CORRUPT_EXIF = {
    "not a TIFF": b"Exif\0\0garbage!",
    "offset behind the end": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "cut off": exif(orientation(1), (0x0131, 2, 400, b"\x20"))[:20],
    "orientation as text": exif((0x0112, 2, 2, b"6\0")),
    "orientation 0": exif(orientation(0)),
    "orientation 99": exif(orientation(99)),
}


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
@pytest.mark.parametrize("block", CORRUPT_EXIF.values(), ids=CORRUPT_EXIF)
def test_a_corrupt_exif_block_does_not_cost_the_picture(block: bytes, kind: str, options: dict[str, Any]) -> None:
    assert np.array_equal(decoded(encoded(noise(), kind, exif=block, **options)), noise())


@pytest.mark.parametrize("block", CORRUPT_EXIF.values(), ids=CORRUPT_EXIF)
def test_a_corrupt_exif_block_does_not_cost_the_photograph(block: bytes) -> None:
    assert np.array_equal(decoded(encoded(smooth(), "JPEG", exif=block)), decoded(encoded(smooth(), "JPEG")))


ODD_ENTRIES = {
    "width as text": (0x0100, 2, 4, b"abc"),
    "negative width": (0x0100, 9, 1, b"\xff\xff\xff\xff"),
    "model as float": (0x0110, 11, 1, b"\0\0\xc0\x7f"),
    "resolution as bytes": (0x011A, 7, 4, b"abcd"),
    "value behind the end": (0x010F, 2, 400, b"\xff\xff\0\0"),
    "unknown type": (0x010F, 99, 1, b"\1"),
    "sub-directory behind the end": (0x8769, 4, 1, b"\xff\xff\xff\x7f"),
    "sub-directory that is its own": (0x8769, 4, 1, b"\x08\0\0\0"),
}


@pytest.mark.parametrize("entry", ODD_ENTRIES.values(), ids=ODD_ENTRIES)
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_an_odd_exif_entry_beside_the_orientation_does_not_matter(
    kind: str, options: dict[str, Any], entry: tuple[int, int, int, bytes]
) -> None:
    block = exif(orientation(6), entry)
    assert np.array_equal(decoded(encoded(noise(), kind, exif=block, **options)), UPRIGHT[6](noise()))


# ----------------------------------------------------------------------------- refusals


FORMATS: dict[str, dict[str, Any]] = {"JPEG": {}, "PNG": {}, "WEBP": {}, "BMP": {}, "GIF": {}, "TIFF": {}}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_picture_is_said_to_be_truncated(kind: str, share: float) -> None:
    data = encoded(noise(60, 80), kind)
    error = refused(data[: int(share * len(data))])
    assert (type(error), error.code, error.status) == (UndecodableImage, "undecodable_image", 400)
    assert "truncated" in str(error)


@pytest.mark.parametrize("options", [{"compression": "tiff_lzw"}, {"compression": "jpeg"}], ids=["lzw", "jpeg"])
def test_a_truncated_tiff_whose_directory_stood_at_the_end(options: dict[str, Any]) -> None:
    data = encoded(noise(60, 80), "TIFF", **options)
    assert "truncated" in str(refused(data[: len(data) // 2]))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_truncated_in_its_header_is_said_to_be_truncated(kind: str) -> None:
    error = refused(encoded(noise(60, 80), kind)[:20])
    assert (type(error), error.code, error.status) == (UndecodableImage, "undecodable_image", 400)
    assert "truncated" in str(error)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_truncation_is_a_request_error_or_a_picture(kind: str) -> None:
    data = encoded(noise(12, 16), kind)
    whole = decoded(data)
    for length in range(len(data) + 1):
        outcome = decoded_or_refused(data[:length])
        if isinstance(outcome, RequestError):
            assert (type(outcome), length < len(data)) == (UndecodableImage, True)
            assert "send JPEG, PNG, WebP, BMP, GIF, or TIFF" in str(outcome)
        else:
            assert np.array_equal(outcome, whole)
            assert length > 0.9 * len(data)


@pytest.mark.parametrize("kind", FORMATS)
def test_no_damage_whatever_is_anything_but_a_request_error_or_a_picture(kind: str) -> None:
    generator, whole = np.random.default_rng(0), encoded(noise(12, 16), kind)
    small = dataclasses.replace(SETTINGS, max_image_pixels=100_000)
    for _ in range(200):
        data = bytearray(whole)
        for position in generator.integers(0, len(data), 4):
            data[position] = generator.integers(0, 256)
        outcome = decoded_or_refused(bytes(data), small)
        assert isinstance(outcome, RequestError) or outcome.ndim == 3


@pytest.mark.parametrize(
    ("data", "said"),
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
def test_what_is_no_picture(data: bytes, said: str) -> None:
    error = refused(data)
    assert (type(error), error.code, error.status) == (UndecodableImage, "undecodable_image", 400)
    assert said in str(error)
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
def test_other_kinds_of_picture_are_called_by_their_name(data: bytes, name: str) -> None:
    error = refused(data)
    assert (type(error), error.code, error.status) == (UnsupportedImage, "unsupported_image", 415)
    assert str(error) == f"{name} is not supported; send JPEG, PNG, WebP, BMP, GIF, or TIFF"


@pytest.mark.parametrize("kind", ["AVIF", "ICO", "JPEG2000", "PPM"])
def test_what_pillow_could_decode_but_the_contract_does_not_name(kind: str) -> None:
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
def test_tiff_of_floating_point_numbers(data: bytes) -> None:
    error = refused(data)
    assert (type(error), error.code, error.status) == (UnsupportedImage, "unsupported_image", 415)
    assert "16 bits" in str(error)


@pytest.mark.parametrize(
    "data",
    [
        png_header(0, 0) + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b""),
        b"GIF89a" + struct.pack("<HHBBB", 0, 0, 0, 0, 0) + b",\0\0\0\0\0\0\0\0\0\2\0;",
        tiff(0, [8], 1, b""),
    ],
    ids=["png", "gif", "tiff"],
)
def test_a_picture_without_pixels(data: bytes) -> None:
    assert type(refused(data)) is UndecodableImage


@pytest.mark.parametrize("kind", [1, 2, 5, 7, 12], ids=["byte", "text", "ratio", "undefined", "double"])
def test_a_tiff_whose_depth_is_no_number(kind: int) -> None:
    number, other = (struct.pack("<HHI", 258, form, 1) for form in (3, kind))
    data = hostile.tiff_gray(4, 4, 1, bytes(16)).replace(number, other)
    assert other in data
    assert type(refused(data)) is UndecodableImage


# ----------------------------------------------------------------------------- limits


def test_bytes_up_to_the_limit() -> None:
    data = encoded(noise(), "PNG")
    assert np.array_equal(decoded(data, dataclasses.replace(SETTINGS, max_image_bytes=len(data))), noise())
    error = refused(data, dataclasses.replace(SETTINGS, max_image_bytes=len(data) - 1))
    assert (type(error), error.code, error.status) == (TooLarge, "image_too_large", 413)
    assert f"{len(data)} bytes, the limit is {len(data) - 1}" in str(error)


def test_pixels_up_to_the_limit() -> None:
    data = encoded(noise(5, 7), "PNG")
    assert np.array_equal(decoded(data, dataclasses.replace(SETTINGS, max_image_pixels=35)), noise(5, 7))
    error = refused(data, dataclasses.replace(SETTINGS, max_image_pixels=34))
    assert (type(error), error.code, error.status) == (TooLarge, "image_too_large", 413)
    assert str(error) == "Image has 7 × 5 = 35 pixels, the limit is 34"


SOF = b"\3\1\x22\0\2\x11\1\3\x11\1"
SOS = b"\xff\xda\0\x0c\3\1\0\2\x11\3\x11\0\x3f\0"


@pytest.mark.parametrize(
    "header",
    [
        lambda width, height: png_header(width, height) + png_chunk(b"IDAT", b""),
        lambda width, height: b"\xff\xd8\xff\xc0\0\x11\x08" + struct.pack(">HH", height, width) + SOF + SOS,
        lambda width, height: (
            b"BM" + struct.pack("<IHHIIiiHHIIIIII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
        ),
        lambda width, height: b"GIF89a\1\0\1\0\0\0\0," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\2\0;",
        # Pillow would fill a background for it as soon as it is opened.
        lambda width, height: (
            b"GIF89a\1\0\1\0\0\0\0!\xf9\4\x08\0\0\0\0," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\2\0;"
        ),
        # The same with the two canvases of an animation.
        lambda width, height: (
            b"RIFF\x1e\0\0\0WEBPVP8L\x12\0\0\0\x2f" + struct.pack("<I", width - 1 | height - 1 << 14) + bytes(13)
        ),
    ],
    ids=["png", "jpeg", "bmp", "gif with a frame larger than its screen", "gif with a background", "webp"],
)
def test_too_many_pixels_are_refused_by_the_header_alone(header: Callable[[int, int], bytes]) -> None:
    # There are no pixels to decode: whoever tried would say "truncated".
    error = refused(header(10_001, 10_000))
    assert type(error) is TooLarge
    assert str(error) == "Image has 10001 × 10000 = 100,010,000 pixels, the limit is 64,000,000"
    error = refused(header(16_383, 16_383))
    assert type(error) is TooLarge
    assert str(error) == "Image has more than 128,000,000 pixels, the limit is 64,000,000"


def test_as_many_scans_as_programs_write_and_no_more() -> None:
    assert decoded(hostile.jpeg_scans(64, 32, 100)).shape == (32, 64, 3)
    error = refused(hostile.jpeg_scans(64, 32, 101))
    assert (type(error), error.status) == (UndecodableImage, 400)
    assert str(error).startswith("Image has 101 JPEG scans, the limit is 100")


def test_only_the_scans_of_the_picture_count() -> None:
    """A thumbnail has some, a telephone hangs a film behind the picture, and a fill byte may stand before a marker."""
    data = encoded(smooth(), "JPEG", exif=exif(orientation(1)) + b"\xff\xda" * 200)
    film = np.random.default_rng(0).integers(0, 256, 2**20, dtype=np.uint8).tobytes() + b"\xff\xda" * 200
    assert np.array_equal(decoded(data + film), decoded(data))
    filled = hostile.jpeg_scans(64, 32, 101).replace(b"\xff\xda", b"\xff\xff\xda")
    assert str(refused(filled)).startswith("Image has 101 JPEG scans, the limit is 100")


def test_a_tiff_of_as_many_pieces_as_programs_write_and_no_more() -> None:
    assert decoded(hostile.tiff_strips(100_000)).shape == (100_000, 16, 3)
    error = refused(hostile.tiff_strips(100_001))
    assert (type(error), error.status) == (UndecodableImage, 400)
    assert str(error).startswith("Image has 100,001 TIFF strips or tiles, the limit is 100,000")


def test_a_tiff_whose_pieces_lie_on_one_another() -> None:
    assert decoded(hostile.tiff_overlapping(9, 2000, 2)).shape == (9, 16, 3)
    error = refused(hostile.tiff_overlapping(50_000, 1_000_000, 2))
    assert (type(error), error.status) == (UndecodableImage, 400)
    assert "its TIFF strips or tiles claim 50,000,000,000 bytes, the file has 1,400,134" in str(error)


def test_nobody_hears_what_pillow_thinks_of_a_file() -> None:
    """It would be a line of the log for each of these entries."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert type(refused(hostile.tiff_directory(1000, 1000))) is UndecodableImage
        assert decoded(hostile.exif_bomb(1000, 1000)).shape == (8, 8, 3)
    assert heard == []


def test_a_picture_that_takes_too_long() -> None:
    impatient = dataclasses.replace(SETTINGS, max_decode_seconds=0.2)
    start = time.monotonic()
    error = refused(hostile.many_comments(1_000_000, filled=False), impatient)
    assert time.monotonic() - start < 0.5
    assert (type(error), error.status) == (TooExpensive, 422)
    assert str(error) == "Image took more than 0.2 s to decode; re-save it with another program"
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def decoded_with_a_million_pixels_of_memory(data: bytes) -> tuple[type, bool, Pixels]:
    """Says how the picture was refused, whether the process then has its old limit, and what it has without."""
    limit = resource.getrlimit(resource.RLIMIT_AS)
    error = refused(data, dataclasses.replace(SETTINGS, max_image_pixels=1_000_000))
    return type(error), resource.getrlimit(resource.RLIMIT_AS) == limit, decoded(data)


def test_a_picture_that_takes_too_much_memory() -> None:
    """One pixel, in a tile of 1 GB."""
    # A process of its own: in this one earlier tests may have left so much memory to be used again.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        refusal, restored, pixels = pool.submit(
            decoded_with_a_million_pixels_of_memory, hostile.tiff_tiles(1, 32_000)
        ).result()
    assert refusal in (TooLarge, UndecodableImage)
    assert restored
    assert pixels.shape == (1, 1, 3)


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.new("CMYK", (3000, 3000)), "JPEG", progressive=True, exif=exif(orientation(6))),
        encoded(Image.new("RGB", (3000, 3000)), "WEBP", lossless=True),
        encoded(Image.new("RGBA", (3000, 3000)), "TIFF", compression="tiff_lzw"),
        encoded(Image.new("I;16", (3000, 3000)), "PNG"),
    ],
    ids=["jpeg", "webp", "tiff", "png"],
)
def test_a_picture_of_the_most_pixels_has_the_memory_it_needs(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEADROOM_BYTES", 2**20)
    assert decoded(data, dataclasses.replace(SETTINGS, max_image_pixels=9_000_000)).shape == (3000, 3000, 3)


def test_another_thread_decodes_as_well() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert np.array_equal(pool.submit(decoded, encoded(noise(), "PNG")).result(), noise())


# ----------------------------------------------------------------------------- model input


def torchvision_input(image: Image.Image, settings: Settings) -> Tensor:
    interpolation = InterpolationMode(settings.interpolation)
    if settings.transform == "squash":
        steps = [transforms.Resize(settings.input_size, interpolation)]
    else:
        steps = [transforms.Resize(settings.resize_size, interpolation), transforms.CenterCrop(settings.input_size)]
    tensor: Tensor = transforms.Compose([*steps, transforms.PILToTensor()])(image)
    return tensor


def our_input(image: Image.Image, settings: Settings) -> Tensor:
    return model_input(image, CropGeometry.of(image.width, image.height, settings), settings.decoding)


SIZES = [
    (1, 1),
    (2, 3),
    (224, 224),
    (223, 225),
    (256, 256),
    (257, 256),
    (256, 257),
    (37, 90),
    (500, 375),
    (375, 500),
    (1024, 683),
]
LONG_SIZES = [(1, 20_000), (20_000, 1), (3, 5000), (40, 1999)]
# Up to these a picture is resized whole, or so much of it that Pillow's arithmetic stays the same.
LONG_CROPS = [(100, 880), (880, 100), (113, 2001), (2001, 113), (7, 97), (97, 7), (30, 3000)]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES + LONG_SIZES, ids=str)
def test_squash_equals_torchvision(size: tuple[int, int], interpolation: Any) -> None:
    image = Image.fromarray(noise(size[1], size[0]))
    settings = dataclasses.replace(SETTINGS, interpolation=interpolation)
    assert torch.equal(our_input(image, settings), torchvision_input(image, settings))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES + LONG_CROPS, ids=str)
def test_crop_equals_torchvision(size: tuple[int, int], interpolation: Any) -> None:
    image = Image.fromarray(noise(size[1], size[0]))
    settings = dataclasses.replace(CROP, interpolation=interpolation)
    assert torch.equal(our_input(image, settings), torchvision_input(image, settings))


@pytest.mark.parametrize("size", [(500, 375), (299, 342), (341, 800)], ids=str)
@pytest.mark.parametrize(
    ("resize_size", "input_size"), [(342, (299, 299)), (232, (224, 224)), (224, (224, 224)), (256, (192, 256))]
)
def test_crop_with_other_sizes(size: tuple[int, int], resize_size: int, input_size: tuple[int, int]) -> None:
    image = Image.fromarray(noise(size[1], size[0]))
    settings = dataclasses.replace(CROP, resize_size=resize_size, input_size=input_size)
    assert torch.equal(our_input(image, settings), torchvision_input(image, settings))


@pytest.mark.parametrize("tall", [True, False], ids=["tall", "wide"])
def test_crop_of_a_picture_too_long_to_resize_whole(tall: bool) -> None:
    """1 × 20,000: pixel i of the 5,120,000 lies at (i + ½) / 256 - ½, and bilinear means between two neighbours."""
    line = noise(20_000, 1)
    image = Image.fromarray(line if tall else line.transpose(1, 0, 2))
    first = (20_000 * 256 - 224) // 2
    at = (np.arange(first, first + 224) + 0.5) / 256 - 0.5
    low = np.floor(at).astype(int)
    share = (at - low)[:, None]
    expected = (1 - share) * line[low, 0] + share * line[low + 1, 0]  # (224, 3)
    ours = our_input(image, CROP).numpy().astype(float)  # (3, 224, 224)
    ours = ours if tall else ours.transpose(0, 2, 1)
    assert np.abs(ours - expected.T[:, :, None]).max() <= 0.51
    assert np.ptp(expected) > 20


# ----------------------------------------------------------------------------- fast decoding

FAST = dataclasses.replace(SETTINGS, decoding="fast")


@pytest.mark.parametrize("transform", ["squash", "crop"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES + LONG_SIZES + LONG_CROPS, ids=str)
def test_fast_input_is_within_a_grey_level(size: tuple[int, int], interpolation: Any, transform: Any) -> None:
    image = Image.fromarray(noise(size[1], size[0]))
    exact = dataclasses.replace(SETTINGS, interpolation=interpolation, transform=transform)
    fast = dataclasses.replace(exact, decoding="fast")
    off = (our_input(image, fast).int() - our_input(image, exact).int()).abs()
    # Noise is the worst of pictures: two levels in a pixel or two. In photographs it is one.
    assert off.max() <= 2
    assert (off > 1).float().mean() < 1e-4
    assert (off > 0).float().mean() < 0.01


def jpeg(width: int, height: int, **options: Any) -> bytes:
    return encoded(smooth(height, width), "JPEG", quality=95, **options)


@pytest.mark.parametrize(
    ("sent", "settings", "read"),
    [
        ((448, 448), FAST, (448, 448)),
        ((895, 4000), FAST, (895, 4000)),  # halved, a side would be less than twice 224
        ((896, 1000), FAST, (448, 500)),
        ((1793, 1800), FAST, (449, 450)),
        ((4000, 3600), FAST, (500, 450)),
        # resized to 341 × 256 before its middle is cut out: twice 341 is more than an eighth, or a quarter, has
        ((2728, 2048), dataclasses.replace(FAST, transform="crop"), (1364, 1024)),
        ((2729, 2729), SETTINGS, (2729, 2729)),
    ],
    ids=str,
)
def test_large_jpegs_are_read_at_a_reduced_scale(
    sent: tuple[int, int], settings: Settings, read: tuple[int, int]
) -> None:
    picture = decode(jpeg(*sent), settings, full_resolution=False)
    assert (picture.width, picture.height) == sent
    assert picture.image.size == read
    exact = our_input(decode(jpeg(*sent), settings).image, SETTINGS)
    view = CropGeometry.of(*sent, dataclasses.replace(settings, transform="squash"))
    ours = model_input(picture.image, view, "fast")
    assert (ours.int() - exact.int()).abs().max() <= 3


def test_a_reduced_picture_that_lies_on_its_side() -> None:
    picture = decode(jpeg(1000, 1200, exif=exif(orientation(6))), FAST, full_resolution=False)
    assert (picture.width, picture.height, *picture.image.size) == (1200, 1000, 600, 500)


@pytest.mark.parametrize("data", [jpeg(2000, 2000), encoded(smooth(2000, 2000), "PNG")], ids=["whole", "png"])
def test_what_is_not_reduced(data: bytes) -> None:
    """A picture for an overlay, and what is no JPEG."""
    png = data.startswith(b"\x89PNG")
    assert decode(data, FAST, full_resolution=not png).image.size == (2000, 2000)


# ----------------------------------------------------------------------------- geometry


@pytest.mark.parametrize(
    ("size", "settings", "region"),
    [
        ((640, 480), SETTINGS, (0, 0, 640, 480)),
        ((1, 20_000), SETTINGS, (0, 0, 1, 20_000)),
        # 16 of 256 at each side
        ((256, 256), CROP, (16, 16, 240, 240)),
        ((512, 512), CROP, (32, 32, 480, 480)),
        # resized to 341 × 256; (341 - 224) / 2 = 58.5 → 58, as CenterCrop rounds; 58 · 1024 / 341 = 174.2, 282 → 846.8
        ((1024, 768), CROP, (174, 48, 847, 720)),
        # resized to 341 × 256; 58 · 640 / 341 = 108.9, 282 → 529.3; 16 · 480 / 256 = 30
        ((640, 480), CROP, (109, 30, 529, 450)),
        # resized to 256 × 1024; 16 · 100 / 256 = 6.25, 240 → 93.75; 400 · 400 / 1024 = 156.25, 624 → 243.75
        ((100, 400), CROP, (6, 156, 94, 244)),
        # less than a pixel high: 9999.6 to 10000.4
        ((1, 20_000), CROP, (0, 10_000, 1, 10_001)),
        ((1, 1), CROP, (0, 0, 1, 1)),
        # nothing cut off the shorter side
        ((224, 448), dataclasses.replace(CROP, resize_size=224), (0, 112, 224, 336)),
    ],
    ids=str,
)
def test_region(size: tuple[int, int], settings: Settings, region: tuple[int, int, int, int]) -> None:
    assert CropGeometry.of(*size, settings).region == Region(*region)


def test_region_is_never_empty_and_never_outside() -> None:
    sides = [1, 2, 3, 5, 8, 13, 224, 256, 257, 999, 20_000]
    for width in sides:
        for height in sides:
            region = CropGeometry.of(width, height, CROP).region
            assert 0 <= region.left < region.right <= width, (width, height)
            assert 0 <= region.top < region.bottom <= height, (width, height)


def test_region_shows_what_the_input_shows() -> None:
    """Outside of the region a picture may change as it likes: but for the filter's reach, the input stays."""
    image = noise(600, 900)
    region = CropGeometry.of(900, 600, CROP).region
    inside = np.zeros_like(image)
    inside[region.top : region.bottom, region.left : region.right] = image[
        region.top : region.bottom, region.left : region.right
    ]
    whole, cut = (our_input(Image.fromarray(pixels), CROP) for pixels in (image, inside))
    assert torch.equal(whole[:, 3:-3, 3:-3], cut[:, 3:-3, 3:-3])


# ----------------------------------------------------------------------------- normalisation


@pytest.mark.parametrize("settings", [SETTINGS, CROP], ids=["squash", "crop"])
def test_normalized_input_equals_torchvision(settings: Settings) -> None:
    image = Image.fromarray(noise(300, 400))
    ours = normalize(our_input(image, settings)[None], settings)
    resize = transforms.Resize((224, 224)) if settings is SETTINGS else transforms.Resize(256)
    theirs = transforms.Compose(
        [resize, transforms.CenterCrop(224), transforms.ToTensor(), transforms.Normalize(settings.mean, settings.std)]
    )(image)
    assert ours.dtype == torch.float32
    assert torch.equal(ours[0], theirs)


def test_every_byte_is_normalized_as_by_torchvision() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    pixels = np.stack([values] * 3, axis=-1)
    theirs = transforms.Compose([transforms.ToTensor(), transforms.Normalize(SETTINGS.mean, SETTINGS.std)])(pixels)
    ours = normalize(torch.from_numpy(pixels).permute(2, 0, 1)[None], SETTINGS)
    assert torch.equal(ours[0], theirs)
