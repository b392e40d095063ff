"""EXIF orientation, and malformed EXIF blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.encoding import encoded
from tests.support.image_files import (
    Pixels,
    decoded,
    exif,
    noise,
    orientation,
    smooth,
)

# EXIF 2.32, table 6: where row 0 and column 0 of the stored image are in the oriented one.
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
def test_lossless_image_is_oriented_by_its_exif(kind: str, options: dict[str, Any], value: int) -> None:
    stored = noise(3, 4)
    tags = Image.Exif()
    tags[0x0112] = value
    assert np.array_equal(decoded(encoded(stored, kind, exif=tags, **options)), UPRIGHT[value](stored))


@pytest.mark.parametrize("value", UPRIGHT)
@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
def test_photograph_is_oriented_by_its_exif(kind: str, value: int) -> None:
    stored = smooth()
    more = {"save_all": True, "append_images": [Image.fromarray(noise(48, 64))]} if kind == "MPO" else {}
    pixels = decoded(encoded(stored, kind, quality=95, subsampling=0, exif=exif(orientation(value)), **more))
    expected = UPRIGHT[value](stored)
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() < 2.5


CORRUPT_EXIF = {
    "not a TIFF": b"Exif\0\0garbage!",
    "offset beyond the end": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "truncated": exif(orientation(1), (0x0131, 2, 400, b"\x20"))[:20],
    "orientation as text": exif((0x0112, 2, 2, b"6\0")),
    "orientation 0": exif(orientation(0)),
    "orientation 99": exif(orientation(99)),
}


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
@pytest.mark.parametrize("block", CORRUPT_EXIF.values(), ids=CORRUPT_EXIF)
def test_corrupt_exif_block_does_not_prevent_lossless_decoding(
    block: bytes, kind: str, options: dict[str, Any]
) -> None:
    assert np.array_equal(decoded(encoded(noise(), kind, exif=block, **options)), noise())


@pytest.mark.parametrize("block", CORRUPT_EXIF.values(), ids=CORRUPT_EXIF)
def test_corrupt_exif_block_does_not_prevent_jpeg_decoding(block: bytes) -> None:
    assert np.array_equal(decoded(encoded(smooth(), "JPEG", exif=block)), decoded(encoded(smooth(), "JPEG")))


ODD_ENTRIES = {
    "width as text": (0x0100, 2, 4, b"abc"),
    "negative width": (0x0100, 9, 1, b"\xff\xff\xff\xff"),
    "model as float": (0x0110, 11, 1, b"\0\0\xc0\x7f"),
    "resolution as bytes": (0x011A, 7, 4, b"abcd"),
    "value beyond the end": (0x010F, 2, 400, b"\xff\xff\0\0"),
    "unknown type": (0x010F, 99, 1, b"\1"),
    "sub-directory beyond the end": (0x8769, 4, 1, b"\xff\xff\xff\x7f"),
    "sub-directory that contains itself": (0x8769, 4, 1, b"\x08\0\0\0"),
}


@pytest.mark.parametrize("entry", ODD_ENTRIES.values(), ids=ODD_ENTRIES)
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_malformed_exif_entry_beside_the_orientation_is_ignored(
    kind: str, options: dict[str, Any], entry: tuple[int, int, int, bytes]
) -> None:
    block = exif(orientation(6), entry)
    assert np.array_equal(decoded(encoded(noise(), kind, exif=block, **options)), UPRIGHT[6](noise()))
