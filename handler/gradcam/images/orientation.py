"""EXIF orientation of Pillow images and of tensors."""

from __future__ import annotations

import logging
from collections.abc import Callable

from PIL import ExifTags, Image
from torch import Tensor

from gradcam.errors import RequestError

logger = logging.getLogger(__name__)

# The transpose that each EXIF orientation requires. Pillow's `exif_transpose` applies the same ones, but it also
# rewrites the EXIF block, which fails if any other entry in the block is malformed.
EXIF_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The same on tensors (3, h, w).
TENSOR_TRANSPOSES: dict[Image.Transpose, Callable[[Tensor], Tensor]] = {
    Image.Transpose.FLIP_LEFT_RIGHT: lambda pixels: pixels.flip(2),
    Image.Transpose.ROTATE_180: lambda pixels: pixels.flip(1, 2),
    Image.Transpose.FLIP_TOP_BOTTOM: lambda pixels: pixels.flip(1),
    Image.Transpose.TRANSPOSE: lambda pixels: pixels.transpose(1, 2),  # (3, h, w) → (3, w, h)
    Image.Transpose.ROTATE_270: lambda pixels: pixels.rot90(-1, (1, 2)),  # (3, h, w) → (3, w, h)
    Image.Transpose.TRANSVERSE: lambda pixels: pixels.transpose(1, 2).flip(1, 2),  # (3, h, w) → (3, w, h)
    Image.Transpose.ROTATE_90: lambda pixels: pixels.rot90(1, (1, 2)),  # (3, h, w) → (3, w, h)
}
SWAPS_AXES = {EXIF_TRANSPOSES[orientation] for orientation in (5, 6, 7, 8)}


def exif_transpose(image: Image.Image) -> Image.Transpose | None:
    """Return the transpose that orients a stored image; None if it needs none or its EXIF block is unreadable."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except RequestError:  # the time limit
        raise
    except Exception as error:  # Pillow may raise anything on a corrupt block; the pixels are still usable
        logger.info("unreadable EXIF: %s: %s", type(error).__name__, error)
        return None
    return EXIF_TRANSPOSES.get(orientation) if isinstance(orientation, int) else None


def oriented_size(size: tuple[int, int], transpose: Image.Transpose | None) -> tuple[int, int]:
    """Return the width and height of an image of stored `size` after the transpose."""
    width, height = size
    return (height, width) if transpose in SWAPS_AXES else (width, height)
