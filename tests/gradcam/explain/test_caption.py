"""The strip below an overlay: its text, its legend, and the unchanged image above it."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from gradcam.explain import caption
from gradcam.explain.provenance import Provenance
from gradcam.options import Options

ORIGIN = Provenance(
    "hats", "2.0", "0123456789ab", 281, "tabby", 0.12345, "layercam", ("layer4",), 2.5, "2026-01-02T03:04:05Z"
)


def test_lines() -> None:
    assert caption.lines(ORIGIN, Options()) == [
        "Evidence for tabby (class 281), probability 12.3 %",
        "Method layercam, layer layer4",
        "Model hats 2.0, weights 0123456789ab",
        "2026-01-02T03:04:05Z (UTC)",
    ]


def test_lines_of_a_contrast_and_of_an_outline() -> None:
    contrast = dataclasses.replace(ORIGIN, versus="lynx (class 287)")
    first, second, *_ = caption.lines(contrast, Options(style="outline", boxes=0.25))
    assert first == "Evidence for tabby (class 281), probability 12.3 %, compared with lynx (class 287)"
    assert second == "Method layercam, layer layer4, contour at 25 % of the maximum"


@pytest.mark.parametrize(
    ("method", "strength", "start"),
    [
        ("gradcam", 0.0, "No evidence for tabby"),
        ("counterfactual", 1.0, "Evidence against tabby"),
        ("counterfactual", 0.0, "No evidence against tabby"),
    ],
)
def test_first_line_says_what_the_map_shows(method: str, strength: float, start: str) -> None:
    origin = dataclasses.replace(ORIGIN, method=method, strength=strength)
    assert caption.lines(origin, Options())[0].startswith(start)


@pytest.mark.parametrize("shape", [(20, 500, 3), (20, 500), (5, 60, 3), (3, 1, 3), (2, 3000)])
def test_image_above_the_strip_is_unchanged(shape: tuple[int, ...]) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    captioned = caption.add(drawn, ORIGIN, Options(style="gray" if len(shape) == 2 else "blend"))
    assert np.array_equal(captioned[: shape[0]], drawn)
    assert captioned.shape[1:] == drawn.shape[1:]
    assert shape[0] < captioned.shape[0] < shape[0] + 2000
    assert (captioned[shape[0] :] == 255).any()


@pytest.mark.parametrize("colormap", ["jet", "viridis"])
def test_legend_has_the_colors_of_the_map_in_order(colormap: str) -> None:
    captioned = caption.add(np.zeros((1, 600, 3), np.uint8), ORIGIN, Options(colormap=colormap))
    palette = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], getattr(cv2, f"COLORMAP_{colormap.upper()}"))[0]
    rows = [row for row in captioned.astype(int) if np.array_equal(row[5], palette[0])]
    assert rows, "no row begins with the lowest color"
    bar = rows[0][5:-5]
    expected = palette[np.linspace(0, 255, len(bar)).astype(np.uint8)]
    assert np.array_equal(bar, expected)


def test_outline_has_no_legend_of_colors() -> None:
    captioned = caption.add(np.zeros((1, 600, 3), np.uint8), ORIGIN, Options(style="outline"))
    gray = (captioned == captioned[:, :, :1]).all()
    assert gray


def test_text_is_drawn_and_differs_with_the_label() -> None:
    drawn = np.zeros((10, 400, 3), np.uint8)
    ours = caption.add(drawn, ORIGIN, Options())
    theirs = caption.add(drawn, dataclasses.replace(ORIGIN, label="Egyptian cat"), Options())
    assert ours.shape == theirs.shape
    assert not np.array_equal(ours, theirs)


def test_strip_is_bounded_whatever_the_label() -> None:
    origin = dataclasses.replace(ORIGIN, label="long " * 50_000)
    assert caption.add(np.zeros((1, 200, 3), np.uint8), origin, Options()).shape[0] < 1000
