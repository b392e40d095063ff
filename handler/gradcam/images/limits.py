"""Limits of decoding: time, memory, pixels, scans and segments."""

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

# A progressive JPEG has about ten scans. Each goes over all pixels, however few its bytes.
MAX_SCANS = 100

# A TIFF has a strip a row at most, or tiles. Of each the decoder starts anew, and that is not to be interrupted.
MAX_SEGMENTS = 100_000
# They may lie on one another, as blank ones do. The decoder copies each in whole.
MAX_OVERLAP = 10
TILE_BYTE_COUNTS = 325

# What decoding takes at most: measured, 17 bytes a pixel for WebP, whose canvas is there twice, 15 for a progressive
# JPEG of four inks that is turned. And the file's own bytes, some times over.
BYTES_PER_PIXEL = 24
HEADROOM_BYTES = 256 * 2**20


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Ends what Pillow does with a file that is made to take for ever, such as a GIF of a million empty comments.

    Only Python's main thread can be interrupted; it is where TorchServe's worker decodes.

    Raises:
        TooExpensive: the time is over.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise TooExpensive(f"the picture was not decoded in {seconds:g} s; save it anew with another program")

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@contextmanager
def memory_limit(settings: Settings) -> Iterator[None]:
    """Lets Pillow take no more memory than a picture of the most pixels needs.

    Some files take much more: a TIFF of one pixel may have it in a tile of 40,000 × 40,000. The limit is the process's:
    where several threads decode, there is none.

    Raises:
        MemoryError: more is asked for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _address_space() + BYTES_PER_PIXEL * settings.max_image_pixels + HEADROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (min([limit, *(known for known in (soft, hard) if known >= 0)]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space() -> int:
    """Returns how many bytes the process has mapped."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def check_scans(image: Image.Image, data: bytes) -> None:
    """Check how many scans a JPEG has."""
    if image.format not in ("JPEG", "MPO") or data.count(b"\xff" + jpeg.START_OF_SCAN) <= MAX_SCANS:
        return  # most pictures: these bytes are in each scan, and elsewhere
    if (scans := jpeg.scans(data)) > MAX_SCANS:
        raise UndecodableImage(f"the picture has {scans:,} scans, more than any program writes; {SUPPORTED}")


def check_segments(image: Image.Image, data: bytes) -> None:
    """Check how many strips or tiles a TIFF has, and their bytes."""
    tags = getattr(image, "tag_v2", {})
    segments = max(len(tags.get(tag, ())) for tag in (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.TILEOFFSETS))
    if segments > MAX_SEGMENTS:
        raise UndecodableImage(f"the picture is in {segments:,} pieces, more than any program writes; {SUPPORTED}")
    claimed = max(sum(tags.get(tag, ())) for tag in (TiffImagePlugin.STRIPBYTECOUNTS, TILE_BYTE_COUNTS))
    if claimed > MAX_OVERLAP * len(data):
        raise UndecodableImage(
            f"the picture is truncated or corrupt (its pieces have {claimed:,} bytes, the file has {len(data):,}); "
            f"{SUPPORTED}"
        )


def check_pixels(image: Image.Image, settings: Settings) -> None:
    """Check how many pixels an image has."""
    pixels = image.width * image.height
    if pixels > settings.max_image_pixels:
        raise TooLarge(
            f"the picture has {image.width} × {image.height} = {pixels:,} pixels, "
            f"the limit is {settings.max_image_pixels:,}"
        )
