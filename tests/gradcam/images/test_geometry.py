"""The region of the image that the model input shows."""

from __future__ import annotations

import dataclasses

import pytest

from gradcam.images.geometry import CropGeometry, Region
from gradcam.settings import Settings
from tests.support.image_files import SETTINGS

CROP = dataclasses.replace(SETTINGS, transform="crop")


@pytest.mark.parametrize(
    ("size", "settings", "region"),
    [
        ((640, 480), SETTINGS, (0, 0, 640, 480)),
        ((1, 20_000), SETTINGS, (0, 0, 1, 20_000)),
        # 16 of 256 at each side
        ((256, 256), CROP, (16, 16, 240, 240)),
        ((512, 512), CROP, (32, 32, 480, 480)),
        # resized to 341 × 256; (341 - 224) / 2 = 58.5 → 58, as CenterCrop rounds; 58 · 1024 / 341 = 174.2, 282 → 846.8
        ((1024, 768), CROP, (174, 48, 847, 720)),
        # resized to 341 × 256; 58 · 640 / 341 = 108.9, 282 → 529.3; 16 · 480 / 256 = 30
        ((640, 480), CROP, (109, 30, 529, 450)),
        # resized to 256 × 1024; 16 · 100 / 256 = 6.25, 240 → 93.75; 400 · 400 / 1024 = 156.25, 624 → 243.75
        ((100, 400), CROP, (6, 156, 94, 244)),
        # less than a pixel high: 9999.6 to 10000.4
        ((1, 20_000), CROP, (0, 10_000, 1, 10_001)),
        ((1, 1), CROP, (0, 0, 1, 1)),
        # nothing cropped from the shorter side
        ((224, 448), dataclasses.replace(CROP, resize_size=224), (0, 112, 224, 336)),
    ],
    ids=str,
)
def test_region(size: tuple[int, int], settings: Settings, region: tuple[int, int, int, int]) -> None:
    assert CropGeometry.of(*size, settings).region == Region(*region)


def test_region_is_never_empty_and_never_outside_the_image() -> None:
    sides = [1, 2, 3, 5, 8, 13, 224, 256, 257, 999, 20_000]
    for width in sides:
        for height in sides:
            region = CropGeometry.of(width, height, CROP).region
            assert 0 <= region.left < region.right <= width, (width, height)
            assert 0 <= region.top < region.bottom <= height, (width, height)
