"""Boxes of maps, compared with rectangles and sums worked out by hand or with NumPy."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gradcam.explain import boxes
from gradcam.explain.boxes import Box
from gradcam.images.geometry import Region

Map = NDArray[np.float32]


def as_map(*rows: list[float]) -> Map:
    return np.array(rows, np.float32)


# As large as its region below, so nothing is resized.
CORNERS = as_map([1, 0, 0, 0.6], [0, 0.5, 0, 0.8], [0, 0, 0, 0.7], [0.5, 0, 0, 0])


def test_boxes_of_a_map_as_large_as_the_region() -> None:
    found = boxes.find(CORNERS, Region(10, 20, 14, 24), 0.5)
    assert [(box.rectangle, box.area) for box in found] == [
        ((13, 20, 14, 23), 3),
        ((10, 20, 12, 22), 2),  # connected at a corner
        ((10, 23, 11, 24), 1),
    ]
    np.testing.assert_allclose([box.mean for box in found], [0.7, 0.75, 0.5], rtol=1e-6)


def test_share_of_one_is_the_maximum_alone() -> None:
    assert boxes.find(CORNERS, Region(0, 0, 4, 4), 1.0) == [Box((0, 0, 1, 1), 1, 1.0)]


@pytest.mark.parametrize("share", [0.01, 0.5, 1.0])
def test_map_without_evidence_has_no_box(share: float) -> None:
    assert boxes.find(np.zeros((7, 7), np.float32), Region(0, 0, 100, 80), share) == []


def test_area_and_mean_are_those_of_the_map_at_the_size_of_the_region() -> None:
    heatmap = np.zeros((7, 7), np.float32)
    heatmap[2, 4], heatmap[3, 4] = 1, 0.8
    resized = cv2.resize(heatmap, (310, 203))
    inside = resized >= 0.5 * resized.max()
    rows, columns = np.nonzero(inside)

    (box,) = boxes.find(heatmap, Region(5, 6, 315, 209), 0.5)

    assert box.rectangle == (5 + columns.min(), 6 + rows.min(), 5 + columns.max() + 1, 6 + rows.max() + 1)
    assert box.area == inside.sum()
    assert box.mean == pytest.approx(resized[inside].mean(), rel=1e-5)


def test_boxes_of_a_large_image_are_those_of_a_smaller_one_scaled() -> None:
    heatmap = np.random.default_rng(3).random((7, 7), dtype=np.float32)
    small = boxes.find(heatmap, Region(0, 0, 512, 256), 0.7)
    large = boxes.find(heatmap, Region(0, 0, 5120, 2560), 0.7)
    assert [box.rectangle for box in large] == [tuple(10 * side for side in box.rectangle) for box in small]
    assert [box.area for box in large] == [100 * box.area for box in small]
    assert [box.mean for box in large] == [box.mean for box in small]


@pytest.mark.parametrize("size", [(1, 1), (1, 40_000), (3, 2), (40_000, 1)])
def test_boxes_lie_within_regions_of_any_shape(size: tuple[int, int]) -> None:
    width, height = size
    region = Region(7, 9, 7 + width, 9 + height)
    for box in boxes.find(np.random.default_rng(4).random((14, 14), dtype=np.float32), region, 0.6):
        left, top, right, bottom = box.rectangle
        assert region.left <= left < right <= region.right
        assert region.top <= top < bottom <= region.bottom
        assert 1 <= box.area <= (right - left) * (bottom - top)
        assert 0 < box.mean <= 1


def test_number_of_boxes_is_bounded() -> None:
    checkered = np.zeros((64, 64), np.float32)
    checkered[::4, ::4] = 1
    found = boxes.find(checkered, Region(0, 0, 64, 64), 0.9)
    assert len(found) == boxes.MAX_BOXES
