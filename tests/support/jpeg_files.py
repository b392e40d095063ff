"""JPEG files, ordinary and unusual ones, for tests of JPEG markers and of GPU decoding."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.support import oracles
from tests.support.encoding import encoded


def jpeg(picture: Image.Image | NDArray[np.uint8], **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(np.ascontiguousarray(picture))
    return encoded(image, "JPEG", **{"quality": 95, **options})


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
    """Returns a JPEG whose frame has the size of the ordinary one, and other channels."""
    size = ORDINARY[FRAME + 4 : FRAME + 9]
    return (
        ORDINARY[:FRAME] + b"\xff\xc0" + struct.pack(">H", 7 + len(channels)) + size + channels + ORDINARY[AFTER_FRAME:]
    )


LEFT = {
    "not a picture": b"hello",
    "nothing": b"",
    "png": PNG,
    "two in one": encoded(photograph(), "MPO", save_all=True, append_images=[photograph()]),
    "progressive": jpeg(photograph(), progressive=True),
    "four inks": jpeg(photograph().convert("CMYK")),
    "channels numbered R, G, B": without_adobe(jpeg(photograph(), keep_rgb=True)),
    "channels said to be red, green, blue": ORDINARY[:2] + ADOBE + ORDINARY[2:],
    "channels that are not told": with_frame(b"\x03\x01\x22\x00"),
    "brightness coarser than colour": with_frame(b"\x03\x01\x11\x00\x02\x22\x01\x03\x22\x01"),
    "two frames": ORDINARY[:FRAME] + ORDINARY[FRAME:AFTER_FRAME] + ORDINARY[FRAME:],
    "lossless": ORDINARY.replace(b"\xff\xc0\x00\x11", b"\xff\xc3\x00\x11"),
    "arithmetic": ORDINARY.replace(b"\xff\xc0\x00\x11", b"\xff\xc9\x00\x11"),
    "cut short, and another behind it": ORDINARY[:-2000] + ORDINARY,
    "another behind it": ORDINARY + ORDINARY,
    "two scans": ORDINARY[:-2] + ORDINARY[ORDINARY.index(b"\xff\xda") :],
    "gif that ends like one": GIF + b"\xff\xd9",
    "cut short": ORDINARY[:-2],
    "something behind it": ORDINARY + b"film",
    "enlarged": jpeg(photograph(100, 80)),
    "very long": jpeg(photograph(16, 9000)),
}
