"""Encoded images: with Pillow, and PNG chunks by hand."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def encoded(image: Image.Image | NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    """Encode an image with Pillow; the image itself stays as it is, which `Image.save` does not promise."""
    copy = image.copy() if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    copy.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> Pixels:
    """Decode an image with Pillow alone, RGB, (H, W, 3)."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return one chunk of a PNG: length, type, data, and CRC."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
