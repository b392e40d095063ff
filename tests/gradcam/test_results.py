"""Results: maps, peaks and probabilities that are computed by hand, and overflow."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from gradcam.errors import (
    NumericalOverflow,
)
from gradcam.images.geometry import Region
from gradcam.message import Result, ServedModel
from gradcam.network.labels import Labels
from gradcam.pipeline import Pipeline
from tests.support import oracles
from tests.support.pipelines import (
    CPU,
    answer,
    ask,
    result,
)
from tests.support.settings import settings

# ----------------------------------------------------------------------------- maps computed by hand


class Colors(nn.Module):
    """Classes dark, blue, green and red: how little of any color the image has, and how much of one.

    The activations are the colors on a grid of 8 × 8 pixels a cell, and a class's gradient is constant, so the map of
    a color is that channel of the grid over its maximum.
    """

    def __init__(self, scale: float = 9) -> None:
        super().__init__()
        self.grid = nn.AvgPool2d(8)
        self.classes = nn.Linear(3, 4, bias=False)
        self.classes.weight.data = scale * torch.tensor([[-1.0, -1, -1], [0, 0, 1], [0, 1, 0], [1, 0, 0]])

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classes(self.grid(x).mean((2, 3)))
        return logits


COLORS = settings(
    architecture="colors",
    num_classes=4,
    input_size=(16, 24),
    mean=(0, 0, 0),
    std=(1, 1, 1),
    layer="grid",
    engine="eager",
    resize_size=32,
)


def colors(scale: float = 9, **changes: Any) -> Pipeline:
    model = Colors(scale).eval().requires_grad_(False)
    labels = Labels(("dark", "blue", "green", "red"))
    return Pipeline(model, labels, dataclasses.replace(COLORS, **changes), CPU)


def painted(
    width: int, height: int, *rectangles: tuple[tuple[int, int, int, int], tuple[int, int, int]]
) -> Image.Image:
    image = Image.new("RGB", (width, height))
    for box, color in rectangles:
        image.paste(color, box)
    return image


# As large as the input, so nothing is resized: cells of 8 × 8 pixels, two rows of three.
CELLS = painted(24, 16, ((8, 0, 16, 8), (200, 0, 0)), ((16, 8, 24, 16), (50, 0, 0)), ((0, 8, 8, 16), (0, 120, 0)))


def test_a_map_computed_by_hand() -> None:
    answered = result(colors(), ask(CELLS, explain=2))
    red, green = answered.explanations
    assert (red.prediction.label, green.prediction.label) == ("red", "green")
    np.testing.assert_allclose(red.heatmap, np.array([[0, 1, 0], [0, 0, 0.25]]), atol=1e-6)
    np.testing.assert_allclose(green.heatmap, np.array([[0, 0, 0], [1, 0, 0]]), atol=1e-6)
    assert (red.peak, green.peak) == ((12, 4), (4, 12))
    # The gradient of a class's score is 9 / 6 at each of the 6 cells.
    assert red.strength == pytest.approx(200 / 255 * 9 / 6)
    assert green.strength == pytest.approx(120 / 255 * 9 / 6)
    assert answered.model == ServedModel("colors", "unversioned", "0" * 12)
    logits = np.array([250, 120, 0, -370]) / 255 * 9 / 6
    probabilities = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose([p.probability for p in answered.predictions], sorted(probabilities)[::-1], rtol=1e-5)


@pytest.mark.parametrize("label", ["blue", "dark"])
def test_a_class_without_evidence(label: str) -> None:
    (explanation,) = result(colors(), ask(CELLS, targets=(label,), overlay="png")).explanations
    assert explanation.heatmap.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert explanation.peak is None
    assert explanation.overlay is not None
    decoded = cv2.imdecode(np.frombuffer(explanation.overlay, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoded, oracles.overlay(np.asarray(CELLS), np.zeros((2, 3), np.float32)))


def test_a_black_image_has_no_evidence_for_the_predicted_class() -> None:
    (explanation,) = result(colors(), ask(Image.new("RGB", (24, 16)))).explanations
    assert not explanation.heatmap.any()
    assert explanation.peak is None


def test_the_peak_of_a_squashed_image_is_in_its_pixels() -> None:
    # 10 × 20 times the input: the red cell is the middle one of the upper row.
    image = painted(240, 320, ((80, 0, 160, 160), (255, 0, 0)))
    answered = result(colors(), ask(image, targets=("red",)))
    assert answered.region == Region(0, 0, 240, 320)
    assert answered.explanations[0].peak == (120, 80)


def test_the_peak_of_a_cropped_image_is_in_its_pixels() -> None:
    # 320 × 160 becomes 64 × 32, of which 24 × 16 in the middle are seen: 120 × 80 pixels of the image, from
    # (100, 40) on, in cells of 40 × 40. The green outside of it is not seen.
    image = painted(
        320, 160, ((0, 0, 320, 20), (0, 255, 0)), ((0, 0, 60, 160), (0, 255, 0)), ((180, 80, 220, 120), (255, 0, 0))
    )
    answered = result(colors(transform="crop"), ask(image, targets=("red", "green")))
    red, green = answered.explanations
    assert answered.region == Region(100, 40, 220, 120)
    assert (answered.width, answered.height) == (320, 160)
    assert red.peak == (200, 100)
    assert red.heatmap[1, 2] == 1
    assert red.heatmap[0].max() < 0.1
    assert green.peak is None


@pytest.mark.parametrize("scale", [1e-9, 9, 1e4])
def test_classes_with_equal_probabilities_in_float32_are_ranked(scale: float) -> None:
    # Nearly the same for all classes with the first scale, and 0 for all but one with the last.
    answered = result(colors(scale), ask(CELLS, explain=3))
    assert [p.label for p in answered.predictions] == ["red", "green", "blue", "dark"]
    assert [e.prediction.label for e in answered.explanations] == ["red", "green", "blue"]


def test_the_default_topk_is_at_most_the_number_of_classes() -> None:
    assert len(result(colors(), ask(CELLS)).predictions) == 4


class Loud(nn.Module):
    """Its activations of a white image leave the range of float16."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = nn.Conv2d(3, 4, 8, stride=8, bias=False)
        self.classes = nn.Linear(4, 4, bias=False)
        self.grid.weight.data.fill_(1e4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classes(self.grid(x).mean((2, 3)))
        return logits


def test_an_image_that_overflows_float16_fails_alone() -> None:
    settings = dataclasses.replace(COLORS, precision="float16")
    model = Loud().eval().requires_grad_(False)
    half = Pipeline(model, Labels(("dark", "blue", "green", "red")), settings, CPU)
    white, black = (ask(Image.new("RGB", (64, 64), color)) for color in ("white", "black"))
    failed, answered = answer(half, white, black)
    assert isinstance(failed, NumericalOverflow)
    assert (failed.status, failed.code) == (422, "numerical_overflow")
    assert isinstance(answered, Result)
