"""Drawing a map with the image that it explains, in several styles, and encoding the result."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gradcam.errors import InvalidOption
from gradcam.explain.boxes import enlarge, reaches
from gradcam.images.geometry import Region
from gradcam.options import Encoding, Options

# OpenCV's color maps; gray levels are none of them.
COLORMAPS: dict[str, int | None] = {
    **{name.removeprefix("COLORMAP_").lower(): value for name, value in vars(cv2).items() if "COLORMAP_" in name},
    "gray": None,
}

# The line of a contour is as many times thinner than the image.
CONTOURS_PER_SIDE = 250

# Maximum pixels per side of each encoding, and OpenCV's parameters. Zlib's fastest level is four times as fast as the
# default, for 10 % more bytes.
LIMITS: dict[Encoding, tuple[int, list[int]]] = {
    "png": (1_000_000, [cv2.IMWRITE_PNG_COMPRESSION, 1]),
    "jpeg": (65_500, [cv2.IMWRITE_JPEG_QUALITY, 95]),
}


def render(
    heatmap: NDArray[np.float32], image: NDArray[np.uint8], region: Region, options: Options
) -> NDArray[np.uint8]:
    """Draw a map in the style, color map and opacity of the options.

    Args:
        heatmap: (h, w) in [0, 1]; resized bilinearly to the region.
        image: (H, W, 3), RGB.
        region: the part of the image that the map covers.
        options: of the request.

    Returns:
        (H, W, 3), BGR; the style `gray` (H, W). The styles without the photograph are black outside the region.
    """
    match options.style:
        case "gray":
            return _in_place(np.zeros(image.shape[:2], np.uint8), region, _levels(heatmap, region))
        case "heatmap":
            return _in_place(np.zeros_like(image), region, colorize(_levels(heatmap, region), options.colormap))
        case "outline":
            return _outline(heatmap, image, region, options.contour_share)
        case _:
            return draw(heatmap, image, region, options.colormap, options.alpha)


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
    colors = colorize(_levels(heatmap, region), colormap)  # (H, W) → (H, W, 3)
    covered[:] = cv2.addWeighted(covered, 1 - alpha, colors, alpha, 0)
    return np.asarray(canvas, dtype=np.uint8)


def colorize(levels: NDArray[np.uint8], colormap: str) -> NDArray[np.uint8]:
    """Return gray levels (H, W) as colors (H, W, 3), BGR."""
    table = COLORMAPS[colormap]
    colors = cv2.cvtColor(levels, cv2.COLOR_GRAY2BGR) if table is None else cv2.applyColorMap(levels, table)
    return np.asarray(colors, dtype=np.uint8)


def _levels(heatmap: NDArray[np.float32], region: Region) -> NDArray[np.uint8]:
    """Return a map (h, w) at the region's size (H, W), in levels from 0 to 255."""
    return np.asarray((255 * enlarge(heatmap, region)).astype(np.uint8), dtype=np.uint8)


def _in_place(canvas: NDArray[np.uint8], region: Region, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    canvas[region.top : region.bottom, region.left : region.right] = pixels
    return canvas


def _outline(heatmap: NDArray[np.float32], image: NDArray[np.uint8], region: Region, share: float) -> NDArray[np.uint8]:
    """Draw a white line with a black edge around everything that reaches the share of the map's maximum."""
    canvas = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), dtype=np.uint8)
    mask = reaches(enlarge(heatmap, region), share).astype(np.uint8)  # (H, W)
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE, offset=(region.left, region.top))
    thickness = max(1, round(max(image.shape) / CONTOURS_PER_SIDE))
    for color, width in (((0, 0, 0), 3 * thickness), ((255, 255, 255), thickness)):
        cv2.drawContours(canvas, contours, -1, color, width)
    return canvas


def encode(image: NDArray[np.uint8], encoding: Encoding) -> bytes:
    """Encode a BGR image (H, W, 3), or gray levels (H, W).

    Raises:
        InvalidOption: the image has more pixels per side than the encoding allows.
    """
    limit, parameters = LIMITS[encoding]
    if max(image.shape) > limit:
        raise InvalidOption(f"{encoding} overlay must have at most {limit:,} pixels per side, got {max(image.shape):,}")
    _, data = cv2.imencode(f".{encoding}", image, parameters)
    return bytes(data)
