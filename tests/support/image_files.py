"""Image files written by hand or with Pillow, and the results of decoding them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from gradcam.errors import RequestError
from gradcam.images.decoding import decode
from gradcam.settings import Settings
from tests.support.encoding import png_chunk
from tests.support.settings import settings

Pixels = NDArray[np.uint8]

SETTINGS = settings()


def noise(height: int = 5, width: int = 7, channels: int = 3, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height: int = 48, width: int = 64) -> Pixels:
    """Return an image without edges, which lossy compression preserves."""
    y, x = np.mgrid[0:height, 0:width]
    channels = (255 * x / (width - 1), 255 * y / (height - 1), 255 * (1 - x / (width - 1)))
    return np.stack(channels, axis=-1).astype(np.uint8)


def png_header(width: int, height: int, bits: int = 8, color: int = 2) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))


def png(width: int, bits: int, color: int, row: bytes, extra: bytes = b"") -> bytes:
    """Return a PNG of one row; `color` is 0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGBA."""
    data = png_chunk(b"IDAT", zlib.compress(b"\0" + row))
    return png_header(width, 1, bits, color) + extra + data + png_chunk(b"IEND", b"")


def tiff(width: int, bits: Sequence[int], photometric: int, row: bytes, kind: int = 1, order: str = "<") -> bytes:
    """Return a TIFF of one row; `photometric` is 0 white is zero, 1 black is zero, 2 RGB; `kind` 3 is float."""
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
    """Return an EXIF block of (tag, type, count, value) entries."""
    packed = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3].ljust(4, b"\0") for entry in sorted(entries))
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + packed + b"\0\0\0\0"


def orientation(value: int) -> tuple[int, int, int, bytes]:
    return 0x0112, 3, 1, struct.pack("<H", value)


def decoded(data: bytes, settings: Settings = SETTINGS) -> Pixels:
    result = decode(data, settings)
    assert result.image.mode == "RGB"
    assert result.image.size == (result.width, result.height)
    return np.asarray(result.image)


def rejected(data: bytes, settings: Settings = SETTINGS) -> RequestError:
    with pytest.raises(RequestError) as raised:
        decode(data, settings)
    return raised.value


def decoded_or_rejected(data: bytes, settings: Settings = SETTINGS) -> Pixels | RequestError:
    try:
        return decoded(data, settings)
    except RequestError as error:
        return error


def row(*values: int | tuple[int, int, int]) -> Pixels:
    """Return one row of RGB pixels; a single number is a gray level."""
    return np.array([[value if isinstance(value, tuple) else (value,) * 3 for value in values]], dtype=np.uint8)
