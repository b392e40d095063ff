"""JPEG markers (ITU-T T.81, annex B), read without decoding."""

from __future__ import annotations

import re
from collections.abc import Iterator

START_OF_SCAN, END_OF_IMAGE = b"\xda", b"\xd9"
# The frame marker of a baseline JPEG, and all frame markers (progressive, lossless, …).
BASELINE = b"\xc0"
FRAMES = {bytes([kind]) for kind in range(0xC0, 0xD0)} - {b"\xc4", b"\xc8", b"\xcc"}
# Restart markers, which may divide a scan.
RESTARTS = [bytes([kind]) for kind in range(0xD0, 0xD8)]
EXIF, ADOBE = b"Exif\0\0", b"Adobe"

# Excludes escaped 0xff bytes of pixel data and restart markers.
MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")

# Usual component identifiers of Y, Cb, and Cr. Others may mean red, green, and blue; decoders have to guess.
YCBCR = (b"\x01\x02\x03", b"\x00\x01\x02")
# The color transform in Adobe's segment that confirms YCbCr.
ADOBE_YCBCR = b"\x01"


def count_scans(data: bytes) -> int:
    """Count the scans, without those of a thumbnail or of data appended after the image.

    Phones append data, such as a motion photo's video, that may contain bytes that look like markers.
    """
    return sum(marker[1] == START_OF_SCAN for marker in _markers(data))


def as_baseline(data: bytes) -> bytes | None:
    """Return a JPEG that all decoders read alike, with its EXIF blocks blanked; None for any other JPEG.

    It has one baseline frame with one scan and no data after it, and is grayscale or YCbCr.
    """
    header = list(_header(data))
    frames = [marker for marker in header if marker[1] in FRAMES]
    if [marker[1] for marker in frames] != [BASELINE] or not _ends_after_scan(data, header[-1]):
        return None
    adobe = [segment for marker in header if (segment := _segment(data, marker)).startswith(ADOBE)]
    return _blank_exif(data, header) if _has_unambiguous_channels(_segment(data, frames[0]), adobe) else None


def _markers(data: bytes) -> Iterator[re.Match[bytes]]:
    """Yield the markers up to the end of the image, without those of its thumbnail."""
    position = 2
    while (marker := MARKER.search(data, position)) and marker[1] != END_OF_IMAGE:
        yield marker
        position = marker.end() + _length(data, marker)


def _header(data: bytes) -> Iterator[re.Match[bytes]]:
    """Yield the markers up to and including the first scan's."""
    for marker in _markers(data):
        yield marker
        if marker[1] == START_OF_SCAN:
            return


def _length(data: bytes, marker: re.Match[bytes]) -> int:
    """Return the length of a marker's segment, including the two length bytes."""
    return int.from_bytes(data[marker.end() : marker.end() + 2], "big")


def _segment(data: bytes, marker: re.Match[bytes]) -> bytes:
    return data[marker.end() + 2 : marker.end() + _length(data, marker)]


def _ends_after_scan(data: bytes, scan: re.Match[bytes]) -> bool:
    """Return whether the marker starts a scan that only the end of the image follows."""
    if scan[1] != START_OF_SCAN or not data.endswith(b"\xff" + END_OF_IMAGE):
        return False
    markers = data.count(b"\xff", scan.end()) - data.count(b"\xff\x00", scan.end())
    # Most JPEGs have no restart markers, and counting them takes time.
    restarts = 0 if markers == 1 else sum(data.count(b"\xff" + kind, scan.end()) for kind in RESTARTS)
    return markers == restarts + 1


def _has_unambiguous_channels(frame: bytes, adobe: list[bytes]) -> bool:
    """Return whether a frame is grayscale, or YCbCr with chroma no finer than luma."""
    count, channels = int.from_bytes(frame[5:6], "big"), frame[6:]
    if len(channels) != 3 * count or count not in (1, 3):
        return False
    if count == 3 and (channels[::3] not in YCBCR or any(segment[11:12] != ADOBE_YCBCR for segment in adobe)):
        return False
    across, down = zip(*(divmod(sampling, 16) for sampling in channels[1::3]), strict=True)
    return bool((across[0], down[0]) == (max(across), max(down)))


def _blank_exif(data: bytes, header: list[re.Match[bytes]]) -> bytes:
    """Overwrite the EXIF blocks with zeros, because decoders disagree on the orientation in some files."""
    pieces, position = [], 0
    for marker in header:
        segment, start = _segment(data, marker), marker.end() + 2
        if segment.startswith(EXIF):
            pieces += [data[position:start], bytes(len(segment))]
            position = start + len(segment)
    return b"".join([*pieces, data[position:]])
