"""JPEG markers: counting scans, and recognizing baseline JPEGs."""

from __future__ import annotations

import pytest

from gradcam.images.jpeg import as_baseline, count_scans
from tests.support.jpeg_files import AFTER_FRAME, LEFT, ORDINARY, jpeg, photograph, with_frame


@pytest.mark.parametrize(
    "data",
    [
        with_frame(b""),
        with_frame(b"\x01"),
        with_frame(b"\x01\x01\x11\x00\x02\x11\x00"),
        with_frame(b"\x02\x01\x11\x00\x02\x11\x00"),
        ORDINARY[:AFTER_FRAME] + b"\xff\xd9",
        ORDINARY[:AFTER_FRAME],
    ],
    ids=["no count", "one channel missing", "two channels, one counted", "two channels", "no scan", "no scan, no end"],
)
def test_unusual_structure_is_not_baseline(data: bytes) -> None:
    assert as_baseline(data) is None


def test_ordinary_jpeg_is_baseline() -> None:
    assert as_baseline(ORDINARY) == ORDINARY


def test_only_exif_is_blanked() -> None:
    with_exif = jpeg(photograph(), exif=b"Exif\0\0" + b"II*\0" * 5)
    blanked = as_baseline(with_exif)
    assert blanked is not None
    assert len(blanked) == len(with_exif)
    assert blanked == with_exif.replace(b"Exif\0\0" + b"II*\0" * 5, bytes(26))


@pytest.mark.parametrize("name", [name for name in LEFT if name not in ("enlarged", "very long")])
def test_jpeg_that_decoders_may_read_differently_is_not_baseline(name: str) -> None:
    assert not LEFT[name].startswith(b"\xff\xd8") or as_baseline(LEFT[name]) is None


def test_scans_are_counted() -> None:
    assert count_scans(ORDINARY) == 1
    assert count_scans(jpeg(photograph(), progressive=True)) > 5
    assert count_scans(ORDINARY + ORDINARY) == 1
    assert count_scans(jpeg(photograph(), exif=b"Exif\0\0" + b"\xff\xda" * 9)) == 1
