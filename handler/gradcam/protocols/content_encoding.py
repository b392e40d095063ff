"""Compressed request bodies, decompressed within a limit."""

from __future__ import annotations

import zlib

from gradcam.errors import InvalidRequest, TooLarge, UnsupportedImage, truncated_repr

ENCODINGS = ("gzip", "deflate")
# zlib's window sizes: a gzip or zlib header, and no header at all, which some clients send as `deflate`.
ANY_HEADER, NO_HEADER = 32 + zlib.MAX_WBITS, -zlib.MAX_WBITS
ZLIB_METHOD = 8  # lower four bits of the first byte of a zlib header


def decompress(body: bytes | bytearray, encoding: str, max_bytes: int) -> bytes | bytearray:
    """Return the body without its `Content-Encoding`.

    Args:
        body: as the server received it.
        encoding: the header's value.
        max_bytes: maximum size of the result; no more than that is ever allocated.

    Raises:
        UnsupportedImage: the encoding is neither gzip nor deflate.
        TooLarge: the result has more than `max_bytes`.
        InvalidRequest: the body is not compressed in that way, or truncated.
    """
    name = encoding.strip().lower().removeprefix("x-")
    if name in ("", "identity"):
        return body
    if name not in ENCODINGS:
        raise UnsupportedImage(
            f"Content-Encoding must be one of {', '.join(ENCODINGS)}, or absent; got {truncated_repr(encoding)}",
            "unsupported_encoding",
        )
    headless = name == "deflate" and not _has_zlib_header(body)
    decompressor = zlib.decompressobj(NO_HEADER if headless else ANY_HEADER)
    try:
        unpacked = decompressor.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise InvalidRequest(f"Body is not valid {name} although its Content-Encoding is {name}") from error
    if len(unpacked) > max_bytes:
        raise TooLarge(f"Decompressed body has more than {max_bytes:,} bytes, the limit; send it without compression")
    if not decompressor.eof or decompressor.unused_data:
        cause = "has data after its end" if decompressor.eof else "is truncated"
        raise InvalidRequest(f"Body in {name} {cause}")
    return unpacked


def _has_zlib_header(body: bytes | bytearray) -> bool:
    return len(body) > 1 and body[0] & 0xF == ZLIB_METHOD and (body[0] << 8 | body[1]) % 31 == 0
