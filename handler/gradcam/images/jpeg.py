"""What the markers of a JPEG say (ITU-T T.81, annex B), without decoding it."""

from __future__ import annotations

import re
from collections.abc import Iterator

START_OF_SCAN, END_OF_IMAGE = b"\xda", b"\xd9"
# The frame of an ordinary JPEG, and all that begin one: progressive, lossless, …
BASELINE = b"\xc0"
FRAMES = {bytes([kind]) for kind in range(0xC0, 0xD0)} - {b"\xc4", b"\xc8", b"\xcc"}
# What a scan may be divided by.
RESTARTS = [bytes([kind]) for kind in range(0xD0, 0xD8)]
EXIF, ADOBE = b"Exif\0\0", b"Adobe"

# Not the bytes that stand for a 0xff among the pixels, nor what parts these.
MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")

# How an ordinary JPEG numbers brightness and colours. Others may mean red, green and blue, and decoders have to guess.
YCBCR = (b"\x01\x02\x03", b"\x00\x01\x02")
# What Adobe's marker says of them.
ADOBE_YCBCR = b"\x01"


def scans(data: bytes) -> int:
    """Counts the scans, but not those of the thumbnail, nor what only looks like one in a film behind the picture."""
    return sum(marker[1] == START_OF_SCAN for marker in _markers(data))


def plain(data: bytes) -> bytes | None:
    """Returns a JPEG that all decoders read alike, without its orientation, which they do not; None of any other.

    It has one baseline frame in one scan, nothing behind that, and is grey or in brightness and two colours.
    """
    header = list(_header(data))
    frames = [marker for marker in header if marker[1] in FRAMES]
    if [marker[1] for marker in frames] != [BASELINE] or not _ends_after_scan(data, header[-1]):
        return None
    adobe = [segment for marker in header if (segment := _segment(data, marker)).startswith(ADOBE)]
    return _without_orientation(data, header) if _has_plain_channels(_segment(data, frames[0]), adobe) else None


def _markers(data: bytes) -> Iterator[re.Match[bytes]]:
    """Yields the markers up to the end of the picture, but not those of its thumbnail."""
    position = 2
    while (marker := MARKER.search(data, position)) and marker[1] != END_OF_IMAGE:
        yield marker
        position = marker.end() + _length(data, marker)


def _header(data: bytes) -> Iterator[re.Match[bytes]]:
    """Yields the markers up to that of the first scan."""
    for marker in _markers(data):
        yield marker
        if marker[1] == START_OF_SCAN:
            return


def _length(data: bytes, marker: re.Match[bytes]) -> int:
    """Returns how many bytes follow a marker, with the two that say so."""
    return int.from_bytes(data[marker.end() : marker.end() + 2], "big")


def _segment(data: bytes, marker: re.Match[bytes]) -> bytes:
    return data[marker.end() + 2 : marker.end() + _length(data, marker)]


def _ends_after_scan(data: bytes, scan: re.Match[bytes]) -> bool:
    """Says whether there is nothing behind the marker but its scan and the end of the picture."""
    if scan[1] != START_OF_SCAN or not data.endswith(b"\xff" + END_OF_IMAGE):
        return False
    markers = data.count(b"\xff", scan.end()) - data.count(b"\xff\x00", scan.end())
    # Most have none of these; to look for them takes time.
    restarts = 0 if markers == 1 else sum(data.count(b"\xff" + kind, scan.end()) for kind in RESTARTS)
    return markers == restarts + 1


def _has_plain_channels(frame: bytes, adobe: list[bytes]) -> bool:
    """Says whether a frame is grey, or in brightness and two colours that are no finer."""
    count, channels = int.from_bytes(frame[5:6], "big"), frame[6:]
    if len(channels) != 3 * count or count not in (1, 3):
        return False
    if count == 3 and (channels[::3] not in YCBCR or any(segment[11:12] != ADOBE_YCBCR for segment in adobe)):
        return False
    across, down = zip(*(divmod(sampling, 16) for sampling in channels[1::3]), strict=True)
    return bool((across[0], down[0]) == (max(across), max(down)))


def _without_orientation(data: bytes, header: list[re.Match[bytes]]) -> bytes:
    """Blanks the EXIF blocks: decoders do not all find the same orientation in the same file."""
    pieces, position = [], 0
    for marker in header:
        segment, start = _segment(data, marker), marker.end() + 2
        if segment.startswith(EXIF):
            pieces += [data[position:start], bytes(len(segment))]
            position = start + len(segment)
    return b"".join([*pieces, data[position:]])
