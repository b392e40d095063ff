"""Supported file formats, and the errors for files of other formats."""

from __future__ import annotations

import io

from PIL import TiffImagePlugin

from gradcam.errors import RequestError, UndecodableImage, UnsupportedImage

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
SUPPORTED = "send JPEG, PNG, WebP, BMP, GIF, or TIFF"

# First bytes of the supported formats: a file that has them but that Pillow does not identify is corrupt.
JPEG = b"\xff\xd8\xff"
MAGIC_BYTES = (JPEG, b"\x89PNG\r\n\x1a\n", b"RIFF", b"BM", b"GIF8", b"II*\0", b"MM\0*")

# Offset and magic bytes of common unsupported formats, so that the error can name the format.
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


def unidentified_error(data: bytes) -> RequestError:
    """Return the error for a file that Pillow does not identify."""
    if not data:
        return UndecodableImage(f"Image is empty (0 bytes); {SUPPORTED}")
    if _is_deep_tiff(data):
        return UnsupportedImage("Image has more than 16 bits per channel; send 8 or 16 bits per channel")
    if data.startswith(MAGIC_BYTES):
        return UndecodableImage(f"Image is truncated or corrupt (incomplete header); {SUPPORTED}")
    for name, (offset, magic_bytes) in OTHER_FORMATS.items():
        if data[offset:].startswith(magic_bytes):
            return UnsupportedImage(f"{name} is not supported; {SUPPORTED}")
    return UndecodableImage(f"File is not an image ({len(data):,} bytes); {SUPPORTED}")


def _is_deep_tiff(data: bytes) -> bool:
    """Return whether the file is a TIFF of more than 16 bits per channel, which Pillow does not identify."""
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        file = io.BytesIO(data)
        file.seek(directory.next)
        directory.load(file)
        return bool(max(directory.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 16)
    except Exception:  # not a TIFF, or a corrupt one: Pillow's parser may raise anything
        return False
