"""A map laid over the picture it explains."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gradcam.errors import InvalidOption
from gradcam.images.geometry import Region
from gradcam.options import Encoding

COLORMAPS: dict[str, int] = {
    name.removeprefix("COLORMAP_").lower(): value for name, value in vars(cv2).items() if name.startswith("COLORMAP_")
}

# Of each encoding the most pixels a side, and OpenCV's parameters. Zlib's fastest level is four times as fast as the
# default, for a tenth more bytes.
LIMITS: dict[Encoding, tuple[int, list[int]]] = {
    "png": (1_000_000, [cv2.IMWRITE_PNG_COMPRESSION, 1]),
    "jpeg": (65_500, [cv2.IMWRITE_JPEG_QUALITY, 95]),
}


def draw(
    heatmap: NDArray[np.float32], picture: NDArray[np.uint8], region: Region, colormap: str, alpha: float
) -> NDArray[np.uint8]:
    """Blends the map over its region of the picture, as the Grad-CAM tutorial does.

    Args:
        heatmap: (h, w) in [0, 1]; resized bilinearly to the region.
        picture: (H, W, 3), RGB.
        region: outside of it the picture stays as it is.
        colormap: a name in `COLORMAPS`.
        alpha: share of the colour in [0, 1]; the picture has the rest.

    Returns:
        (H, W, 3), BGR, the order that OpenCV encodes.
    """
    canvas = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    covered = canvas[region.top : region.bottom, region.left : region.right]
    resized = cv2.resize(heatmap, (covered.shape[1], covered.shape[0]))  # (h, w) → (H, W)
    colors = cv2.applyColorMap((255 * resized).astype(np.uint8), COLORMAPS[colormap])  # (H, W) → (H, W, 3)
    covered[:] = cv2.addWeighted(covered, 1 - alpha, colors, alpha, 0)
    return np.asarray(canvas, dtype=np.uint8)


def encode(picture: NDArray[np.uint8], encoding: Encoding) -> bytes:
    """Encodes a BGR picture (H, W, 3).

    Raises:
        InvalidOption: the encoding cannot hold a picture of this size.
    """
    most, parameters = LIMITS[encoding]
    if max(picture.shape) > most:
        raise InvalidOption(f"overlay: {encoding} holds at most {most:,} pixels a side, this picture has more")
    _, data = cv2.imencode(f".{encoding}", picture, parameters)
    return bytes(data)
