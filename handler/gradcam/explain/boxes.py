"""Boxes: where a map reaches a share of its maximum, as rectangles in pixels of the image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gradcam.images.geometry import Region

# Pixels of the longer side of the enlarged map; larger regions of an image are computed at this size.
MAX_SIDE = 512
MAX_BOXES = 100
# Two positions that touch at a corner belong to the same connected region.
CONNECTIVITY = 8


@dataclass(frozen=True)
class Box:
    """A connected region of a map that reaches a share of the map's maximum."""

    rectangle: tuple[int, int, int, int]
    """Left, top, right and bottom in pixels of the oriented image; right and bottom are exclusive."""
    area: int
    """Pixels of the connected region, at most those of the rectangle."""
    mean: float
    """Mean of the heatmap over the connected region, in [0, 1]."""


def find(heatmap: NDArray[np.float32], region: Region, share: float) -> list[Box]:
    """Return the boxes of a map, the largest area first, at most `MAX_BOXES`.

    Args:
        heatmap: (h, w) in [0, 1]; enlarged bilinearly to the region, or to `MAX_SIDE` if the region is larger.
        region: the part of the image that the map covers.
        share: of the enlarged map's maximum, in (0, 1]; connected regions reach at least this value.
    """
    enlarged = enlarge(heatmap, region, MAX_SIDE)  # (H, W)
    height, width = enlarged.shape
    across, down = (region.right - region.left) / width, (region.bottom - region.top) / height
    mask = reaches(enlarged, share).astype(np.uint8)
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=CONNECTIVITY)
    sums = np.bincount(labels.ravel(), weights=enlarged.ravel(), minlength=count)
    # Label 0 is everything outside of the connected regions.
    largest = sorted(range(1, count), key=lambda label: -int(statistics[label, cv2.CC_STAT_AREA]))[:MAX_BOXES]
    boxes = []
    for label in largest:
        left, top, columns, rows, area = (int(value) for value in statistics[label])
        rectangle = (
            region.left + math.floor(left * across),
            region.top + math.floor(top * down),
            region.left + math.ceil((left + columns) * across),
            region.top + math.ceil((top + rows) * down),
        )
        boxes.append(Box(rectangle, max(1, round(area * across * down)), float(sums[label] / area)))
    return boxes


def reaches(enlarged: NDArray[np.float32], share: float) -> NDArray[np.bool_]:
    """Return where a map (H, W) reaches a share of its maximum: nowhere if it is all 0."""
    maximum = enlarged.max()
    return np.asarray((enlarged >= share * maximum) & (maximum > 0), dtype=np.bool_)


def enlarge(heatmap: NDArray[np.float32], region: Region, max_side: int | None = None) -> NDArray[np.float32]:
    """Return a map (h, w), resized bilinearly to its region of the image, or to at most `max_side` pixels a side."""
    width, height = region.right - region.left, region.bottom - region.top
    scale = 1.0 if max_side is None else min(1.0, max_side / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(heatmap, size), dtype=np.float32)  # (h, w) → (H, W)
