"""Pictures that mean harm, made by code: name → how to make it, and what may come back.

The server's tests send them, the fuzzer starts from the small ones.
"""

from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from PIL import Image

from tests.support import oracles
from tests.support.encoding import encoded, png_chunk

LIMIT = 64_000_000
"""Pixels that a picture may have, unless the model's settings say otherwise."""

# What no answer says: where the code is, and what it was about. (The brackets keep it from matching itself.)
LEAK = re.compile(r'T[r]aceback|F[i]le "|s[i]te-packages|/(?:tmp|home|usr|work|root)/|\w+[.]p[y]\b')

# What may be said of a picture that is damaged anywhere: a size in its header may be changed, a format as well.
DAMAGED = frozenset({200, 400, 413, 415})


@dataclass(frozen=True)
class Hostile:
    """A file, made when it is needed, and the statuses that may answer it."""

    make: Callable[[], bytes]
    statuses: frozenset[int]
    code: str | None = None
    """Of the error, where the status is none but an error's."""


def answered(make: Callable[[], bytes]) -> Hostile:
    return Hostile(make, frozenset({200}))


def refused(make: Callable[[], bytes], status: int, code: str) -> Hostile:
    return Hostile(make, frozenset({status}), code)


def survived(make: Callable[[], bytes]) -> Hostile:
    return Hostile(make, DAMAGED)


# ----------------------------------------------------------------------------- valid files, and damage to them


def valid() -> dict[str, bytes]:
    """Returns a small file of every kind that is decoded."""
    first, second = oracles.seeded_image(48, 32, 1), oracles.seeded_image(48, 32, 2)
    grey = first.convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6
    frames: dict[str, Any] = {"save_all": True, "append_images": [second], "duration": 40}
    return {
        "jpeg": encoded(first, "JPEG"),
        "jpeg progressive": encoded(first, "JPEG", progressive=True),
        "jpeg cmyk": encoded(first.convert("CMYK"), "JPEG"),
        "jpeg exif": encoded(first, "JPEG", exif=exif),
        "mpo": encoded(first, "MPO", save_all=True, append_images=[second.copy()]),
        "png": encoded(first, "PNG"),
        "png palette": encoded(first.convert("P"), "PNG", transparency=3),
        "png 16 bits": encoded(grey.convert("I;16"), "PNG"),
        "apng": encoded(first, "PNG", **frames),
        "gif": encoded(first, "GIF"),
        "gif animated": encoded(first, "GIF", **frames),
        "webp": encoded(first, "WEBP"),
        "webp lossless": encoded(first, "WEBP", lossless=True),
        "webp animated": encoded(first, "WEBP", **frames),
        "bmp": encoded(first, "BMP"),
        "bmp rle": bmp_rle(4, 2, b"\x04\x01\0\0\x02\x01\x02\x02\0\1"),
        "tiff": encoded(first, "TIFF"),
        "tiff lzw": encoded(first, "TIFF", compression="tiff_lzw"),
        "tiff deflate": encoded(first, "TIFF", compression="tiff_adobe_deflate"),
        "tiff jpeg": encoded(first, "TIFF", compression="jpeg"),
        "tiff fax": encoded(grey.convert("1"), "TIFF", compression="group4"),
        "tiff pages": encoded(first, "TIFF", save_all=True, append_images=[second]),
    }


def truncated(data: bytes) -> Iterable[bytes]:
    """Yields the file cut off after each sixteenth."""
    return (data[: len(data) * part // 16] for part in range(1, 16))


def flipped(data: bytes, seed: int, bits: int = 8) -> bytes:
    """Returns the file with some bits turned over; half of them in front, where the structure is."""
    generator, damaged = random.Random(seed), bytearray(data)
    for number in range(bits):
        position = generator.randrange(min(len(data), 64) if number % 2 else len(data))
        damaged[position] ^= 1 << generator.randrange(8)
    return bytes(damaged)


# ----------------------------------------------------------------------------- files, written by hand


def png(width: int, height: int, data: bytes, *, color: int = 0, bits: int = 8, extra: bytes = b"") -> bytes:
    """Returns a PNG; `color` is 0 grey, 2 RGB, 6 RGBA."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def png_blank(width: int, height: int, *, color: int = 0, bits: int = 8) -> bytes:
    """Returns a PNG of so many black pixels."""
    channels = {0: 1, 2: 3, 6: 4}[color]
    return png(
        width, height, zlib.compress(bytes((1 + width * channels * bits // 8) * height), 1), color=color, bits=bits
    )


def gif(width: int, height: int, *, extra: bytes = b"") -> bytes:
    """Returns a GIF that claims this size; of its pixels there are as many as one code gives."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    return screen + extra + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\2\2\x4c\1\0;"


def gif_blank(width: int, height: int) -> bytes:
    image = Image.new("P", (width, height))
    image.putpalette(bytes(6))
    return encoded(image, "GIF", optimize=False)


def bmp_rle(width: int, height: int, data: bytes) -> bytes:
    """Returns a BMP of eight bits a pixel whose rows are run-length encoded."""
    palette = bytes(range(256)) * 4
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + header + palette + data


def tiff(tags: dict[int, tuple[int, list[int]]], data: bytes = b"") -> bytes:
    """Returns a TIFF of these tags (type 3 is 16 bits, 4 is 32 bits) behind its data, which starts at byte 8."""
    directory, outside = b"", b""
    start = 8 + len(data) + 2 + 12 * len(tags) + 4
    for tag, (form, values) in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}{'H' if form == 3 else 'I'}", *values)
        if len(packed) > 4:
            packed, outside = struct.pack("<I", start + len(outside)), outside + packed
        directory += struct.pack("<HHI", tag, form, len(values)) + packed.ljust(4, b"\0")
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(data))
        + data
        + struct.pack("<H", len(tags))
        + directory
        + bytes(4)
        + outside
    )


def tiff_grey(width: int, height: int, compression: int, data: bytes, **more: tuple[int, list[int]]) -> bytes:
    """Returns a TIFF of eight bits a pixel in one strip; `more` are further tags, as `t266`."""
    tags = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [8]),
        259: (3, [compression]),
        262: (3, [1]),
        273: (4, [8]),
        277: (3, [1]),
        278: (4, [height]),
        279: (4, [len(data)]),
    }
    return tiff(tags | {int(name[1:]): value for name, value in more.items()}, data)


def tiff_strips(rows: int) -> bytes:
    """Returns a TIFF whose every row is a strip of its own."""
    strip = zlib.compress(bytes(16))
    return tiff_grey(
        16,
        rows,
        8,
        strip * rows,
        t273=(4, list(range(8, 8 + rows * len(strip), len(strip)))),
        t278=(4, [1]),
        t279=(3, [len(strip)] * rows),
    )


def tiff_overlapping(rows: int, strip: int, fill_order: int) -> bytes:
    """Returns a TIFF whose every row is a strip of its own, and all of these are the same long one."""
    data = zlib.compress(bytes(16)).ljust(strip, b"\0")
    if fill_order == 2:
        data = data.translate(bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256)))
    return tiff_grey(
        16,
        rows,
        8,
        data,
        t266=(3, [fill_order]),
        t273=(4, [8] * rows),
        t278=(4, [1]),
        t279=(4, [strip] * rows),
    )


def tiff_tiles(side: int, tile: int) -> bytes:
    """Returns a TIFF in tiles of this side."""
    data = zlib.compress(bytes(tile * tile), 1)
    count = (-(-side // tile)) ** 2
    tags = {
        256: (4, [side]),
        257: (4, [side]),
        258: (3, [8]),
        259: (3, [8]),
        262: (3, [1]),
        277: (3, [1]),
        322: (4, [tile]),
        323: (4, [tile]),
        324: (4, [8] * count),
        325: (4, [len(data)] * count),
    }
    return tiff(tags, data)


def tiff_directory(count: int, size: int) -> bytes:
    """Returns a TIFF whose directory's entries all claim the same long piece of the file."""
    entries = b"".join(struct.pack("<HHII", 1024 + number, 7, size, 8) for number in range(count))
    return b"II*\0" + struct.pack("<I", 8 + size) + bytes(size) + struct.pack("<H", count) + entries + bytes(4)


def jpeg_scans(width: int, height: int, scans: int) -> bytes:
    """Returns a progressive JPEG of blank scans, each a few bytes for all of the picture."""
    quantization = b"\xff\xdb\0\x43\0" + b"\1" * 64
    frame = b"\xff\xc2\0\x0b\x08" + struct.pack(">HH", height, width) + b"\1\1\x11\0"
    # One code each: the difference 0 of DC, and 2^14 blocks to skip of AC.
    tables = b"\xff\xc4\0\x14\0\1" + bytes(15) + b"\0" + b"\xff\xc4\0\x14\x10\1" + bytes(15) + b"\xe0"
    blocks = -(-width // 8) * -(-height // 8)
    direct = b"\xff\xda\0\x08\1\1\0\0\0\0" + bytes(blocks // 8 + 1)
    # Code 0 and 14 bits for the length of the run.
    runs = bytes(2 * (blocks // 2**14 + 1))
    scan = b"\xff\xda\0\x08\1\1\0\1\x3f\0" + runs
    return b"\xff\xd8" + quantization + frame + tables + direct + scan * (scans - 1) + b"\xff\xd9"


def exif_bomb(size: int, count: int) -> bytes:
    """Returns a PNG whose EXIF block is a directory like that of `tiff_directory`."""
    blank = zlib.compress(bytes(9 * 8))
    return png(8, 8, blank, extra=png_chunk(b"eXIf", tiff_directory(count, size)))


def many_comments(count: int, filled: bool) -> bytes:
    block = b"!\xfe" + (b"\xff" + b"x" * 255 if filled else b"") + b"\0"
    return gif(1, 1, extra=block * count)


def one_comment(blocks: int) -> bytes:
    return gif(1, 1, extra=b"!\xfe" + (b"\xff" + b"x" * 255) * blocks + b"\0")


def webp_claim(width: int, height: int) -> bytes:
    """Returns the beginning of a lossless WebP of this size, at most 16,384 a side."""
    return b"RIFF\x1e\0\0\0WEBPVP8L\x12\0\0\0\x2f" + struct.pack("<I", width - 1 | height - 1 << 14) + bytes(13)


def jpeg_segments(count: int) -> bytes:
    """Returns a JPEG with so many empty comments."""
    return b"\xff\xd8" + b"\xff\xfe\0\2" * count + encoded(oracles.seeded_image(8, 8, 0), "JPEG")[2:]


def png_chunks(count: int) -> bytes:
    """Returns a PNG with so many empty chunks that nobody knows."""
    return png(1, 1, zlib.compress(bytes(2)), extra=png_chunk(b"abCd", b"") * count)


def blank(width: int, height: int, kind: str, mode: str = "L", **options: Any) -> bytes:
    return encoded(Image.new(mode, (width, height)), kind, **options)


ARCHIVE = b"PK\x05\x06" + bytes(18)
BACKGROUND = b"!\xf9\4\x08\0\0\0\0"  # of a GIF: Pillow fills one as large as the frame

CORPUS: dict[str, Hostile] = {
    # Sizes, claimed or true.
    "1 × 1": answered(lambda: png_blank(1, 1)),
    "1 × 20,000": answered(lambda: png_blank(1, 20_000)),
    "20,000 × 1": answered(lambda: blank(20_000, 1, "JPEG")),
    "png 0 × 0": refused(lambda: png(0, 0, zlib.compress(b"")), 400, "undecodable_image"),
    "gif 0 × 0": refused(lambda: gif(0, 0), 400, "undecodable_image"),
    "png 2^31 - 1": refused(lambda: png(2**31 - 1, 2**31 - 1, b""), 413, "image_too_large"),
    "png 2^31 - 1 × 1": refused(lambda: png(2**31 - 1, 1, b""), 413, "image_too_large"),
    "tiff 2^32 - 1": refused(lambda: tiff_grey(2**32 - 1, 2**32 - 1, 8, b""), 413, "image_too_large"),
    "gif 65,535": refused(lambda: gif(65_535, 65_535), 413, "image_too_large"),
    "gif 65,535 background": refused(lambda: gif(65_535, 65_535, extra=BACKGROUND), 413, "image_too_large"),
    "webp 16,383": refused(lambda: webp_claim(16_383, 16_383), 413, "image_too_large"),
    "bmp 2^31 - 1": refused(lambda: bmp_rle(2**31 - 1, 2**31 - 1, b""), 413, "image_too_large"),
    # Bombs: above the limit on pixels, and as much as it allows.
    "png bomb": refused(lambda: png_blank(8001, 8000), 413, "image_too_large"),
    "png full": answered(lambda: png_blank(8000, 8000, bits=16)),
    "gif bomb": refused(lambda: gif_blank(8001, 8000), 413, "image_too_large"),
    "gif full": answered(lambda: gif_blank(8000, 8000)),
    "tiff bomb": refused(lambda: blank(8001, 8000, "TIFF", compression="tiff_lzw"), 413, "image_too_large"),
    "tiff full": answered(lambda: blank(8000, 8000, "TIFF", "RGBA", compression="tiff_lzw")),
    "webp bomb": refused(lambda: webp_claim(8001, 8000), 413, "image_too_large"),
    "webp full": answered(lambda: blank(8000, 8000, "WEBP", "RGB", lossless=True)),
    "tiff tile for a pixel": answered(lambda: tiff_tiles(1, 10_000)),
    # Much of what is otherwise little.
    "jpeg scans": answered(lambda: jpeg_scans(2000, 2000, 100)),
    "jpeg more scans": refused(lambda: jpeg_scans(64, 64, 10_000), 400, "undecodable_image"),
    "jpeg segments": answered(lambda: jpeg_segments(200_000)),
    "png chunks": answered(lambda: png_chunks(200_000)),
    "gif comments": answered(lambda: many_comments(1_000_000, filled=False)),
    "gif comment": answered(lambda: one_comment(100_000)),
    "tiff strips": refused(lambda: tiff_strips(1_000_000), 400, "undecodable_image"),
    "tiff overlapping": refused(lambda: tiff_overlapping(50_000, 1_000_000, 2), 400, "undecodable_image"),
    "tiff directory": refused(lambda: tiff_directory(60_000, 100_000), 400, "undecodable_image"),
    "exif directory": answered(lambda: exif_bomb(100_000, 20_000)),
    "bmp gaps": answered(lambda: bmp_rle(8_000_000, 1, b"\0\2\xff\xff" * 10_000)),
    # No pictures.
    "zip": refused(lambda: ARCHIVE, 400, "undecodable_image"),
    "text": refused(lambda: "Schöne Grüße\r\n".encode() * 1000, 400, "undecodable_image"),
    "javascript": refused(lambda: b"<script>alert(1)</script>", 400, "undecodable_image"),
    "svg of entities": refused(
        lambda: b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a "' + b"a" * 10_000, 415, "unsupported_image"
    ),
    "postscript": refused(lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 400, "undecodable_image"),
    "pdf": refused(lambda: blank(9, 9, "PDF"), 415, "unsupported_image"),
    "path": refused(lambda: b"/etc/passwd", 400, "undecodable_image"),
    "pickle": refused(lambda: b"\x80\x04cos\nsystem\n(S'true'\ntR.", 400, "undecodable_image"),
}
