"""EXIF orientation of images and tensors."""

from __future__ import annotations

import logging
from collections.abc import Callable

from PIL import ExifTags, Image
from torch import Tensor

from gradcam.errors import RequestError

logger = logging.getLogger(__name__)

# What to do to a stored picture for each EXIF orientation. Pillow's `exif_transpose` does the same, but it
# also writes the EXIF block anew, and fails where any other entry of it is odd.
EXIF_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TENSOR_TRANSPOSES: dict[Image.Transpose, Callable[[Tensor], Tensor]] = {
    Image.Transpose.FLIP_LEFT_RIGHT: lambda pixels: pixels.flip(2),
    Image.Transpose.ROTATE_180: lambda pixels: pixels.flip(1, 2),
    Image.Transpose.FLIP_TOP_BOTTOM: lambda pixels: pixels.flip(1),
    Image.Transpose.TRANSPOSE: lambda pixels: pixels.transpose(1, 2),
    Image.Transpose.ROTATE_270: lambda pixels: pixels.rot90(-1, (1, 2)),
    Image.Transpose.TRANSVERSE: lambda pixels: pixels.transpose(1, 2).flip(1, 2),
    Image.Transpose.ROTATE_90: lambda pixels: pixels.rot90(1, (1, 2)),
}
SWAPS_AXES = {EXIF_TRANSPOSES[orientation] for orientation in (5, 6, 7, 8)}


def transpose_of(image: Image.Image) -> Image.Transpose | None:
    """Return the transpose that EXIF orientation asks for; None where there is none."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except RequestError:  # out of time
        raise
    except Exception as error:  # whatever a corrupt block leads Pillow into; the pixels are fine
        logger.info("unreadable EXIF: %s: %s", type(error).__name__, error)
        return None
    return EXIF_TRANSPOSES.get(orientation) if isinstance(orientation, int) else None


def oriented_size(size: tuple[int, int], turn: Image.Transpose | None) -> tuple[int, int]:
    """Returns width and height after the turn."""
    width, height = size
    return (height, width) if turn in SWAPS_AXES else (width, height)
