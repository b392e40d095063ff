"""JPEG files, ordinary and unusual ones, for tests of JPEG markers and of GPU decoding."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.support import oracles
from tests.support.encoding import encoded


def jpeg(image: Image.Image | NDArray[np.uint8], **options: Any) -> bytes:
    copy = image if isinstance(image, Image.Image) else Image.fromarray(np.ascontiguousarray(image))
    return encoded(copy, "JPEG", **{"quality": 95, **options})


def photograph(width: int = 400, height: int = 300, seed: int = 0) -> Image.Image:
    return oracles.seeded_image(width, height, seed)


ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64" + bytes(5)


def without_adobe(data: bytes) -> bytes:
    at = data.index(b"\xff\xee")
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


PNG, GIF = (encoded(photograph(), kind) for kind in ("PNG", "GIF"))

ORDINARY = jpeg(photograph())

FRAME = ORDINARY.index(b"\xff\xc0\x00\x11")

AFTER_FRAME = FRAME + 19


def with_frame(channels: bytes) -> bytes:
    """Return the ordinary JPEG with other channels in its frame."""
    size = ORDINARY[FRAME + 4 : FRAME + 9]
    return (
        ORDINARY[:FRAME] + b"\xff\xc0" + struct.pack(">H", 7 + len(channels)) + size + channels + ORDINARY[AFTER_FRAME:]
    )


LEFT = {
    "not an image": b"hello",
    "empty": b"",
    "png": PNG,
    "two images": encoded(photograph(), "MPO", save_all=True, append_images=[photograph()]),
    "progressive": jpeg(photograph(), progressive=True),
    "CMYK": jpeg(photograph().convert("CMYK")),
    "channels numbered R, G, B": without_adobe(jpeg(photograph(), keep_rgb=True)),
    "channels declared as red, green, blue": ORDINARY[:2] + ADOBE + ORDINARY[2:],
    "channels missing from the frame": with_frame(b"\x03\x01\x22\x00"),
    "luma coarser than chroma": with_frame(b"\x03\x01\x11\x00\x02\x22\x01\x03\x22\x01"),
    "two frames": ORDINARY[:FRAME] + ORDINARY[FRAME:AFTER_FRAME] + ORDINARY[FRAME:],
    "lossless": ORDINARY.replace(b"\xff\xc0\x00\x11", b"\xff\xc3\x00\x11"),
    "arithmetic": ORDINARY.replace(b"\xff\xc0\x00\x11", b"\xff\xc9\x00\x11"),
    "truncated, and another image after it": ORDINARY[:-2000] + ORDINARY,
    "another image after it": ORDINARY + ORDINARY,
    "two scans": ORDINARY[:-2] + ORDINARY[ORDINARY.index(b"\xff\xda") :],
    "gif that ends like a JPEG": GIF + b"\xff\xd9",
    "truncated": ORDINARY[:-2],
    "data after it": ORDINARY + b"video",
    "enlarged": jpeg(photograph(100, 80)),
    "very long": jpeg(photograph(16, 9000)),
}
