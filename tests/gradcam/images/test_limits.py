"""Limits of bytes, pixels, scans, segments, time, and memory."""

from __future__ import annotations

import dataclasses
import multiprocessing
import resource
import signal
import struct
import time
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
    refused,
    smooth,
)


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
