"""Drawing a map over the image that it explains, and encoding the result."""

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

# Maximum pixels per side of each encoding, and OpenCV's parameters. Zlib's fastest level is four times as fast as the
# default, for 10 % more bytes.
LIMITS: dict[Encoding, tuple[int, list[int]]] = {
    "png": (1_000_000, [cv2.IMWRITE_PNG_COMPRESSION, 1]),
    "jpeg": (65_500, [cv2.IMWRITE_JPEG_QUALITY, 95]),
}


def draw(
    heatmap: NDArray[np.float32], image: NDArray[np.uint8], region: Region, colormap: str, alpha: float
) -> NDArray[np.uint8]:
    """Blend the map over its region of the image, as the Grad-CAM tutorial does.

    Args:
        heatmap: (h, w) in [0, 1]; resized bilinearly to the region.
        image: (H, W, 3), RGB; unchanged outside the region.
        region: the part of the image that the map covers.
        colormap: a name in `COLORMAPS`.
        alpha: weight of the map's color in [0, 1]; the image has the remaining weight.

    Returns:
        (H, W, 3), BGR, the order that OpenCV encodes.
    """
    canvas = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    covered = canvas[region.top : region.bottom, region.left : region.right]
    resized = cv2.resize(heatmap, (covered.shape[1], covered.shape[0]))  # (h, w) → (H, W)
    colors = cv2.applyColorMap((255 * resized).astype(np.uint8), COLORMAPS[colormap])  # (H, W) → (H, W, 3)
    covered[:] = cv2.addWeighted(covered, 1 - alpha, colors, alpha, 0)
    return np.asarray(canvas, dtype=np.uint8)


def encode(image: NDArray[np.uint8], encoding: Encoding) -> bytes:
    """Encode a BGR image (H, W, 3).

    Raises:
        InvalidOption: the image has more pixels per side than the encoding allows.
    """
    limit, parameters = LIMITS[encoding]
    if max(image.shape) > limit:
        raise InvalidOption(f"{encoding} overlay must have at most {limit:,} pixels per side, got {max(image.shape):,}")
    _, data = cv2.imencode(f".{encoding}", image, parameters)
    return bytes(data)
