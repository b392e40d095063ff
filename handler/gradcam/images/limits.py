"""Limits of decoding: time, memory, pixels, JPEG scans, and TIFF segments."""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from PIL import Image, TiffImagePlugin

from gradcam.errors import TooExpensive, TooLarge, UndecodableImage
from gradcam.images import jpeg
from gradcam.images.formats import SUPPORTED
from gradcam.settings import Settings

# A progressive JPEG usually has about ten scans. Decoding each one visits all pixels, however few bytes it has.
MAX_SCANS = 100

# A TIFF has at most one strip per row, or tiles. The decoder restarts for each, which cannot be interrupted.
MAX_SEGMENTS = 100_000
# Segments may share bytes, as blank ones do, but the decoder copies every segment separately.
MAX_OVERLAP = 10
TILE_BYTE_COUNTS = 325

# Memory that decoding needs at most. Measured: 17 bytes per pixel for WebP, which holds its canvas twice, and 15 for
# a progressive CMYK JPEG that is transposed. The headroom covers several copies of the file's own bytes.
BYTES_PER_PIXEL = 24
HEADROOM_BYTES = 256 * 2**20


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt Pillow on a file built to decode forever, such as a GIF of a million empty comments.

    Python can interrupt only its main thread, which is where TorchServe's worker decodes. Elsewhere there is no limit.

    Raises:
        TooExpensive: the time is up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise TooExpensive(f"Image took more than {seconds:g} s to decode; re-save it with another program")

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@contextmanager
def memory_limit(settings: Settings) -> Iterator[None]:
    """Limit Pillow to the memory that an image of `max_image_pixels` needs.

    Some files need far more: a TIFF of one pixel may store it in a tile of 40,000 × 40,000. The limit applies to the
    whole process, so there is none outside the main thread, where several threads may decode.

    Raises:
        MemoryError: the body allocates more.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _address_space() + BYTES_PER_PIXEL * settings.max_image_pixels + HEADROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (min([limit, *(current for current in (soft, hard) if current >= 0)]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space() -> int:
    """Return how many bytes the process has mapped."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def check_pixels(width: int, height: int, settings: Settings) -> None:
    """Check an image's size against `max_image_pixels`, before its pixels are decoded.

    Raises:
        TooLarge: it has more pixels.
    """
    pixels = width * height
    if pixels > settings.max_image_pixels:
        raise TooLarge(f"Image has {width} × {height} = {pixels:,} pixels, the limit is {settings.max_image_pixels:,}")


def check_scans(image: Image.Image, data: bytes) -> None:
    """Check the number of scans of a JPEG.

    Raises:
        UndecodableImage: it has more than `MAX_SCANS`, which no ordinary program writes.
    """
    if image.format not in ("JPEG", "MPO") or data.count(b"\xff" + jpeg.START_OF_SCAN) <= MAX_SCANS:
        return  # most images: every scan starts with these two bytes, which occur elsewhere, too
    if (scans := jpeg.count_scans(data)) > MAX_SCANS:
        raise UndecodableImage(f"Image has {scans:,} JPEG scans, the limit is {MAX_SCANS}; {SUPPORTED}")


def check_segments(image: Image.Image, data: bytes) -> None:
    """Check the number and the sizes of a TIFF's strips or tiles.

    Raises:
        UndecodableImage: there are more than `MAX_SEGMENTS`, or they claim far more bytes than the file has.
    """
    tags = getattr(image, "tag_v2", {})
    segments = max(len(tags.get(tag, ())) for tag in (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.TILEOFFSETS))
    if segments > MAX_SEGMENTS:
        raise UndecodableImage(
            f"Image has {segments:,} TIFF strips or tiles, the limit is {MAX_SEGMENTS:,}; {SUPPORTED}"
        )
    claimed = max(sum(tags.get(tag, ())) for tag in (TiffImagePlugin.STRIPBYTECOUNTS, TILE_BYTE_COUNTS))
    if claimed > MAX_OVERLAP * len(data):
        raise UndecodableImage(
            f"Image is truncated or corrupt (its TIFF strips or tiles claim {claimed:,} bytes, the file has "
            f"{len(data):,}); {SUPPORTED}"
        )
