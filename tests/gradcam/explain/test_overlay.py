"""The overlay against the OpenCV calls that the Grad-CAM tutorial makes."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gradcam.errors import InvalidOption
from gradcam.explain import overlay
from gradcam.images.geometry import Region
from gradcam.options import Options

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]


def noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def heatmap(height: int = 7, width: int = 7) -> Map:
    """Return a random map with values from 0 to 1."""
    values = np.random.default_rng(1).random((height, width), dtype=np.float32)
    return np.asarray(values / values.max(), dtype=np.float32)


def full_region(pixels: Pixels) -> Region:
    return Region(0, 0, pixels.shape[1], pixels.shape[0])


def tutorials(values: Map, rgb: Pixels) -> Pixels:
    """Return the tutorial's superimposed image, computed with its own lines of code."""
    img = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    resized = cv2.resize(values, (img.shape[1], img.shape[0]))
    colored = cv2.applyColorMap(np.uint8(255 * resized), cv2.COLORMAP_JET)
    return np.asarray(cv2.addWeighted(img, 0.6, colored, 0.4, 0), dtype=np.uint8)


@pytest.mark.parametrize(
    "size", [(224, 224), (300, 451), (451, 300), (1, 1), (1, 500), (500, 1), (5, 3), (1, 20_000), (1024, 1024)], ids=str
)
def test_overlay_equals_the_tutorials(size: tuple[int, int]) -> None:
    rgb, values = noise(*size), heatmap()
    assert np.array_equal(overlay.draw(values, rgb, full_region(rgb), "jet", 0.4), tutorials(values, rgb))


@pytest.mark.parametrize(
    "values",
    [np.zeros((7, 7), np.float32), np.ones((7, 7), np.float32), np.eye(7, dtype=np.float32), heatmap(14, 9)],
    ids=["nothing", "everything", "diagonal", "14 x 9"],
)
def test_overlay_of_any_map_equals_the_tutorials(values: Map) -> None:
    rgb = noise(50, 60)
    assert np.array_equal(overlay.draw(values, rgb, full_region(rgb), "jet", 0.4), tutorials(values, rgb))


def test_colors_worked_out_by_hand() -> None:
    """JET begins at BGR (128, 0, 0) and ends at (0, 0, 128); 60 % of 100 is 60."""
    rgb = np.full((1, 2, 3), 100, np.uint8)
    drawn = overlay.draw(np.array([[0, 1]], np.float32), rgb, Region(0, 0, 2, 1), "jet", 0.4)
    assert drawn.tolist() == [[[111, 60, 60], [60, 60, 111]]]


def test_image_is_unchanged_outside_the_region() -> None:
    rgb, values = noise(40, 60), heatmap()
    drawn = overlay.draw(values, rgb, Region(10, 5, 50, 35), "jet", 0.4)
    expected = rgb[:, :, ::-1].copy()
    expected[5:35, 10:50] = tutorials(values, np.ascontiguousarray(rgb[5:35, 10:50]))
    assert np.array_equal(drawn, expected)


def test_alpha_is_the_weight_of_the_color() -> None:
    rgb, values = noise(20, 30), heatmap()
    colored = cv2.applyColorMap(np.uint8(255 * cv2.resize(values, (30, 20))), cv2.COLORMAP_JET)
    assert np.array_equal(overlay.draw(values, rgb, full_region(rgb), "jet", 0.0), rgb[:, :, ::-1])
    assert np.array_equal(overlay.draw(values, rgb, full_region(rgb), "jet", 1.0), colored)
    quarter = 0.75 * rgb[:, :, ::-1].astype(float) + 0.25 * colored
    assert np.abs(overlay.draw(values, rgb, full_region(rgb), "jet", 0.25) - quarter).max() <= 0.51


@pytest.mark.parametrize("name", ["viridis", "hot", "bone", "turbo"])
def test_colormap(name: str) -> None:
    rgb = np.zeros((1, 256, 3), np.uint8)
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None]
    expected = cv2.applyColorMap((255 * ramp).astype(np.uint8), getattr(cv2, f"COLORMAP_{name.upper()}"))
    assert np.array_equal(overlay.draw(ramp, rgb, full_region(rgb), name, 1.0), expected)


def test_every_colormap_can_be_drawn() -> None:
    rgb, values = noise(1, 256), np.linspace(0, 1, 256, dtype=np.float32)[None]
    drawn = {name: overlay.draw(values, rgb, full_region(rgb), name, 1.0).tobytes() for name in overlay.COLORMAPS}
    assert len(set(drawn.values())) == len(drawn) > 20


def test_image_is_not_modified() -> None:
    rgb = noise(20, 30)
    before = rgb.copy()
    rgb.flags.writeable = False  # like Pillow's arrays
    overlay.draw(heatmap(), rgb, full_region(rgb), "jet", 0.4)
    assert np.array_equal(rgb, before)


# ----------------------------------------------------------------------------- styles

REGION = Region(10, 5, 50, 35)


def levels(values: Map) -> Pixels:
    """Return the map at the size of `REGION`, in the levels that the tutorial gives to the color map."""
    return np.asarray(np.uint8(255 * cv2.resize(values, (40, 30))), dtype=np.uint8)


def test_style_blend_is_the_default() -> None:
    rgb, values = noise(40, 60), heatmap()
    drawn = overlay.render(values, rgb, REGION, Options(colormap="hot", alpha=0.7))
    assert np.array_equal(drawn, overlay.draw(values, rgb, REGION, "hot", 0.7))


def test_style_heatmap_is_the_map_in_color_without_the_image() -> None:
    expected = np.zeros((40, 60, 3), np.uint8)
    expected[5:35, 10:50] = cv2.applyColorMap(levels(heatmap()), cv2.COLORMAP_HOT)
    drawn = overlay.render(heatmap(), noise(40, 60), REGION, Options(style="heatmap", colormap="hot"))
    assert np.array_equal(drawn, expected)


def test_style_gray_is_the_map_in_levels() -> None:
    expected = np.zeros((40, 60), np.uint8)
    expected[5:35, 10:50] = levels(heatmap())
    drawn = overlay.render(heatmap(), noise(40, 60), REGION, Options(style="gray"))
    assert np.array_equal(drawn, expected)
    decoded = cv2.imdecode(np.frombuffer(overlay.encode(drawn, "png"), np.uint8), -1)
    assert decoded is not None
    assert np.array_equal(decoded, expected)


@pytest.mark.parametrize("share", [None, 0.9])
def test_style_outline_is_a_contour_at_the_share(share: float | None) -> None:
    rgb = np.full((300, 400, 3), 90, np.uint8)
    x, y = np.meshgrid(np.arange(100), np.arange(75))
    values = np.exp(-((x - 50) ** 2 + (y - 37) ** 2) / 2 / 15**2).astype(np.float32)
    region = Region(0, 0, 400, 300)
    drawn = overlay.render(values, rgb, region, Options(style="outline", boxes=share))
    resized = cv2.resize(values, (400, 300))
    white = (drawn == 255).all(axis=2)
    assert white.any()
    assert np.abs(resized[white] - (share or 0.5) * resized.max()).max() < 0.06
    changed = (drawn != 90).any(axis=2)
    assert set(drawn[changed].ravel().tolist()) == {0, 255}
    assert changed.mean() < 0.05


def test_style_outline_of_a_map_without_evidence_is_the_image() -> None:
    rgb = noise(20, 30)
    drawn = overlay.render(np.zeros((7, 7), np.float32), rgb, full_region(rgb), Options(style="outline"))
    assert np.array_equal(drawn, rgb[:, :, ::-1])


def test_colormap_gray_is_the_level_in_each_channel() -> None:
    ramp = np.arange(256, dtype=np.uint8)[None]
    assert np.array_equal(overlay.colorize(ramp, "gray"), np.repeat(ramp[:, :, None], 3, axis=2))


# ----------------------------------------------------------------------------- encoding


def read(data: bytes) -> tuple[str | None, Pixels]:
    """Decode with Pillow; return the format and the BGR image."""
    with Image.open(io.BytesIO(data)) as image:
        return image.format, np.asarray(image.convert("RGB"))[:, :, ::-1]


def test_png_is_exact() -> None:
    bgr = noise(33, 47)
    kind, pixels = read(overlay.encode(bgr, "png"))
    assert kind == "PNG"
    assert np.array_equal(pixels, bgr)


def test_jpeg_is_close() -> None:
    y, x = np.mgrid[0:64, 0:64]
    bgr = np.stack([4 * x, 4 * y, 255 - 4 * x], axis=-1).astype(np.uint8)
    kind, pixels = read(overlay.encode(bgr, "jpeg"))
    assert kind == "JPEG"
    assert np.abs(pixels.astype(int) - bgr).mean() < 3


@pytest.mark.parametrize("shape", [(1, 65_500), (65_500, 1)], ids=str)
def test_jpeg_of_the_maximum_side(shape: tuple[int, int]) -> None:
    _, pixels = read(overlay.encode(np.full((*shape, 3), 99, np.uint8), "jpeg"))
    assert pixels.shape == (*shape, 3)
    assert np.abs(pixels.astype(int) - 99).max() <= 2


@pytest.mark.parametrize("shape", [(1, 65_501), (65_501, 1)], ids=str)
def test_jpeg_of_a_longer_side_is_rejected(shape: tuple[int, int]) -> None:
    with pytest.raises(InvalidOption, match=r"^jpeg overlay must have at most 65,500 pixels per side, got"):
        overlay.encode(np.zeros((*shape, 3), np.uint8), "jpeg")


def encoded_or_rejected(bgr: Pixels) -> bytes | InvalidOption:
    try:
        return overlay.encode(bgr, "png")
    except InvalidOption as error:
        return error


@pytest.mark.parametrize("shape", [(1, 1_000_001), (1_000_001, 1)], ids=str)
def test_png_is_complete_or_rejected(shape: tuple[int, int]) -> None:
    """The PNG library's own limit is a million pixels a side; the model's settings allow 64 million."""
    bgr = np.full((*shape, 3), 7, np.uint8)
    outcome = encoded_or_rejected(bgr)
    assert "overlay" in str(outcome) if isinstance(outcome, InvalidOption) else np.array_equal(read(outcome)[1], bgr)
