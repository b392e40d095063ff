"""File formats: which are supported, and why a file that Pillow does not identify is rejected."""

from __future__ import annotations

import io

from PIL import TiffImagePlugin

from gradcam.errors import RequestError, UndecodableImage, UnsupportedImage

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
SUPPORTED = "send JPEG, PNG, WebP, BMP, GIF or TIFF"

# How these begin: a picture that begins so, but is not recognised, is broken.
JPEG = b"\xff\xd8\xff"
MAGIC_BYTES = (JPEG, b"\x89PNG\r\n\x1a\n", b"RIFF", b"BM", b"GIF8", b"II*\0", b"MM\0*")

# How other kinds of picture begin, so that their senders hear more than "not a picture".
OTHER_FORMATS: dict[str, tuple[int, tuple[bytes, ...]]] = {
    "AVIF": (4, (b"ftypavif", b"ftypavis")),
    "HEIC": (4, (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1")),
    "JPEG 2000": (0, (b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51")),
    "JPEG XL": (0, (b"\x00\x00\x00\x0cJXL ", b"\xff\x0a")),
    "Photoshop": (0, (b"8BPS",)),
    "PDF": (0, (b"%PDF-",)),
    "SVG": (0, (b"<svg", b"<?xml")),
    "ICO": (0, (b"\x00\x00\x01\x00",)),
    "DICOM": (128, (b"DICM",)),
}


def not_an_image(data: bytes) -> RequestError:
    """Return the error for a file that Pillow does not identify."""
    if not data:
        return UndecodableImage(f"the picture is empty (0 bytes); {SUPPORTED}")
    if _is_deep_tiff(data):
        return UnsupportedImage("pictures of more than 16 bits a channel have no known range; send 8 or 16 bits")
    if data.startswith(MAGIC_BYTES):
        return UndecodableImage(f"the picture is truncated or corrupt (its header is not whole); {SUPPORTED}")
    for name, (offset, beginnings) in OTHER_FORMATS.items():
        if data[offset:].startswith(beginnings):
            return UnsupportedImage(f"{name} is not supported; {SUPPORTED}")
    return UndecodableImage(f"these {len(data):,} bytes are not a picture; {SUPPORTED}")


def _is_deep_tiff(data: bytes) -> bool:
    """Says whether it is a TIFF of more than 16 bits a channel, which Pillow does not identify."""
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        file = io.BytesIO(data)
        file.seek(directory.next)
        directory.load(file)
        return bool(max(directory.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 16)
    except Exception:  # not a TIFF, or a broken one: whatever that leads Pillow into
        return False
