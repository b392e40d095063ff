"""Limits of bytes, pixels, scans, segments, time, and memory."""

from __future__ import annotations

import dataclasses
import multiprocessing
import resource
import signal
import struct
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from gradcam.errors import TooExpensive, TooLarge, UndecodableImage
from gradcam.images import limits
from tests.support import hostile
from tests.support.encoding import encoded, png_chunk
from tests.support.image_files import (
    SETTINGS,
    Pixels,
    decoded,
    exif,
    noise,
    orientation,
    png_header,
    rejected,
    smooth,
)


def test_bytes_at_and_above_the_limit() -> None:
    data = encoded(noise(), "PNG")
    assert np.array_equal(decoded(data, dataclasses.replace(SETTINGS, max_image_bytes=len(data))), noise())
    error = rejected(data, dataclasses.replace(SETTINGS, max_image_bytes=len(data) - 1))
    assert (type(error), error.code, error.status) == (TooLarge, "image_too_large", 413)
    assert f"{len(data)} bytes, the limit is {len(data) - 1}" in str(error)


def test_pixels_at_and_above_the_limit() -> None:
    data = encoded(noise(5, 7), "PNG")
    assert np.array_equal(decoded(data, dataclasses.replace(SETTINGS, max_image_pixels=35)), noise(5, 7))
    error = rejected(data, dataclasses.replace(SETTINGS, max_image_pixels=34))
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
        # Pillow would allocate its background when it opens the file.
        lambda width, height: (
            b"GIF89a\1\0\1\0\0\0\0!\xf9\4\x08\0\0\0\0," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\2\0;"
        ),
        # Pillow would allocate the two canvases of an animation.
        lambda width, height: (
            b"RIFF\x1e\0\0\0WEBPVP8L\x12\0\0\0\x2f" + struct.pack("<I", width - 1 | height - 1 << 14) + bytes(13)
        ),
    ],
    ids=["png", "jpeg", "bmp", "gif with a frame larger than its screen", "gif with a background", "webp"],
)
def test_too_many_pixels_are_rejected_from_the_header_alone(header: Callable[[int, int], bytes]) -> None:
    # The file has no pixel data, so decoding it would report it as truncated.
    error = rejected(header(10_001, 10_000))
    assert type(error) is TooLarge
    assert str(error) == "Image has 10001 × 10000 = 100,010,000 pixels, the limit is 64,000,000"
    error = rejected(header(16_383, 16_383))
    assert type(error) is TooLarge
    assert str(error) == "Image has more than 128,000,000 pixels, the limit is 64,000,000"


def test_scans_at_and_above_the_limit() -> None:
    assert decoded(hostile.jpeg_scans(64, 32, 100)).shape == (32, 64, 3)
    error = rejected(hostile.jpeg_scans(64, 32, 101))
    assert (type(error), error.status) == (UndecodableImage, 400)
    assert str(error).startswith("Image has 101 JPEG scans, the limit is 100")


def test_only_scans_of_the_image_count() -> None:
    """Thumbnails have scans, phones append a video to the image, and a fill byte may precede a marker."""
    data = encoded(smooth(), "JPEG", exif=exif(orientation(1)) + b"\xff\xda" * 200)
    video = np.random.default_rng(0).integers(0, 256, 2**20, dtype=np.uint8).tobytes() + b"\xff\xda" * 200
    assert np.array_equal(decoded(data + video), decoded(data))
    filled = hostile.jpeg_scans(64, 32, 101).replace(b"\xff\xda", b"\xff\xff\xda")
    assert str(rejected(filled)).startswith("Image has 101 JPEG scans, the limit is 100")


def test_tiff_segments_at_and_above_the_limit() -> None:
    assert decoded(hostile.tiff_strips(100_000)).shape == (100_000, 16, 3)
    error = rejected(hostile.tiff_strips(100_001))
    assert (type(error), error.status) == (UndecodableImage, 400)
    assert str(error).startswith("Image has 100,001 TIFF strips or tiles, the limit is 100,000")


def test_tiff_whose_segments_overlap() -> None:
    assert decoded(hostile.tiff_overlapping(9, 2000, 2)).shape == (9, 16, 3)
    error = rejected(hostile.tiff_overlapping(50_000, 1_000_000, 2))
    assert (type(error), error.status) == (UndecodableImage, 400)
    assert "its TIFF strips or tiles claim 50,000,000,000 bytes, the file has 1,400,134" in str(error)


def test_pillows_warnings_are_suppressed() -> None:
    """Without suppression, each of these entries would add a line to the log."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert type(rejected(hostile.tiff_directory(1000, 1000))) is UndecodableImage
        assert decoded(hostile.exif_bomb(1000, 1000)).shape == (8, 8, 3)
    assert caught == []


def test_image_that_takes_too_long() -> None:
    short_limit = dataclasses.replace(SETTINGS, max_decode_seconds=0.2)
    error = rejected(hostile.many_comments(1_000_000, filled=False), short_limit)
    assert (type(error), error.status) == (TooExpensive, 422)
    assert str(error) == "Image took more than 0.2 s to decode; re-save it with another program"
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def decoded_with_memory_for_a_million_pixels(data: bytes) -> tuple[type, bool, Pixels]:
    """Return the type of the rejection, whether the old limit is restored, and the pixels decoded without one."""
    limit = resource.getrlimit(resource.RLIMIT_AS)
    error = rejected(data, dataclasses.replace(SETTINGS, max_image_pixels=1_000_000))
    return type(error), resource.getrlimit(resource.RLIMIT_AS) == limit, decoded(data)


@pytest.mark.slow
def test_image_that_needs_too_much_memory() -> None:
    """The file stores one pixel in a tile of 1 GB."""
    # In a new process, because this one may reuse enough memory that earlier tests have freed.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        rejection, restored, pixels = pool.submit(
            decoded_with_memory_for_a_million_pixels, hostile.tiff_tiles(1, 32_000)
        ).result()
    assert rejection in (TooLarge, UndecodableImage)
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
def test_image_of_maximum_size_has_enough_memory(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEADROOM_BYTES", 2**20)
    assert decoded(data, dataclasses.replace(SETTINGS, max_image_pixels=9_000_000)).shape == (3000, 3000, 3)


def test_decoding_in_another_thread() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert np.array_equal(pool.submit(decoded, encoded(noise(), "PNG")).result(), noise())
