"""Thresholds, with probabilities that are computed by hand: multi-label and softmax."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from gradcam.errors import InvalidOption, TooLarge, TooMany
from gradcam.network.labels import Labels
from gradcam.network.logits import return_logits
from gradcam.pipeline import Pipeline
from tests.support.pipelines import CPU, ask, rejection, result
from tests.support.settings import settings


class Channels(nn.Module):
    """The logits of red, green and blue: twelve times each channel's mean, minus 3."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = nn.AvgPool2d(8)
        self.classes = nn.Linear(3, 3)
        self.classes.weight.data = 12 * torch.eye(3)
        self.classes.bias.data.fill_(-3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classes(self.grid(x).mean((2, 3)))
        return logits


SETTINGS = settings(
    architecture="channels",
    num_classes=3,
    input_size=(16, 16),
    mean=(0, 0, 0),
    std=(1, 1, 1),
    layer="grid",
    engine="eager",
    activation="sigmoid",
)
# Half of the image is red, a quarter green, and nothing blue: logits 3, 0 and -3.
IMAGE = Image.new("RGB", (16, 16))
IMAGE.paste((255, 0, 0), (0, 0, 8, 16))
IMAGE.paste((0, 255, 0), (8, 0, 16, 8))
SIGMOIDS = [1 / (1 + np.exp(-3)), 0.5, 1 / (1 + np.exp(3))]
SOFTMAX = np.exp([3, 0, -3]) / np.exp([3, 0, -3]).sum()


def channels(**changes: Any) -> Pipeline:
    model = Channels().eval().requires_grad_(False)
    return Pipeline(model, Labels(("red", "green", "blue")), dataclasses.replace(SETTINGS, **changes), CPU)


def explained(pipeline: Pipeline, threshold: float) -> list[str]:
    return [entry.prediction.label for entry in result(pipeline, ask(IMAGE, threshold=threshold)).explanations]


def test_multi_label_probabilities_are_sigmoids_ranked_by_logit() -> None:
    answered = result(channels(), ask(IMAGE, targets=("green",)))
    assert [p.label for p in answered.predictions] == ["red", "green", "blue"]
    np.testing.assert_allclose([p.probability for p in answered.predictions], SIGMOIDS, rtol=1e-5)
    (green,) = answered.explanations
    assert green.prediction.probability == pytest.approx(0.5)
    np.testing.assert_allclose(green.heatmap, [[0, 1], [0, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("threshold", "labels"),
    [
        (0.0, ["red", "green", "blue"]),
        (0.04, ["red", "green", "blue"]),
        (0.05, ["red", "green"]),
        (0.5, ["red", "green"]),
        (0.51, ["red"]),
        (0.96, []),
        (1.0, []),
    ],
)
def test_a_threshold_explains_every_class_at_or_above_it(threshold: float, labels: list[str]) -> None:
    assert explained(channels(), threshold) == labels


@pytest.mark.parametrize(
    ("threshold", "labels"), [(SOFTMAX[1] * 0.999, ["red", "green"]), (SOFTMAX[1] * 1.001, ["red"])]
)
def test_a_threshold_of_softmax_probabilities(threshold: float, labels: list[str]) -> None:
    assert explained(channels(activation="softmax"), threshold) == labels


def test_more_classes_than_allowed_reach_the_threshold() -> None:
    pipeline = channels(max_targets=2)
    assert explained(pipeline, 0.5) == ["red", "green"]
    error = rejection(pipeline, ask(IMAGE, threshold=0.01))
    assert (type(error), error.code) == (TooMany, "too_many_targets")
    assert "at most 2" in str(error)
    assert "3 classes reach the threshold 0.01" in str(error)
    of_two = dataclasses.replace(ask(IMAGE, threshold=0.5), images_in_request=2)
    assert "at most 1 (2 per request, 2 images), but 2 classes" in str(rejection(pipeline, of_two))


def test_overlay_pixels_are_counted_when_the_classes_are_known() -> None:
    pipeline = channels(max_overlay_pixels=2 * 16 * 16)
    assert len(result(pipeline, ask(IMAGE, threshold=0.5, overlay="png")).explanations) == 2
    error = rejection(pipeline, ask(IMAGE, threshold=0.01, overlay="png"))
    assert (type(error), error.code) == (TooLarge, "overlay_too_large")


def test_an_overlay_as_the_reply_needs_a_class_above_the_threshold() -> None:
    assert result(channels(), ask(IMAGE, "png", threshold=0.5)).explanations[0].overlay
    error = rejection(channels(), ask(IMAGE, "png", threshold=0.99))
    assert type(error) is InvalidOption
    assert "threshold must be at most 0.952574, the highest probability" in str(error)


def test_a_rejected_image_does_not_affect_its_batch() -> None:
    pipeline = channels(max_targets=2)
    alone = result(pipeline, ask(IMAGE, threshold=0.5))
    failed, together = pipeline.answer([ask(IMAGE, threshold=0.01), ask(IMAGE, threshold=0.5)])
    assert isinstance(failed, TooMany)
    assert not isinstance(together, Exception)
    for ours, theirs in zip(together.explanations, alone.explanations, strict=True):
        assert ours.prediction.index == theirs.prediction.index
        np.testing.assert_allclose(ours.heatmap, theirs.heatmap, atol=1e-6)


class Amount(nn.Module):
    """One logit: how much red there is, minus how much green."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = nn.AvgPool2d(8)
        self.red = nn.Linear(3, 1)
        self.red.weight.data = torch.tensor([[8.0, -4, 0]])
        self.red.bias.data.fill_(-1)

    def forward(self, x: Tensor) -> Tensor:
        return self.red(self.grid(x).mean((2, 3))).squeeze(1)


def test_one_logit_has_a_map_of_both_classes() -> None:
    model = return_logits(Amount().eval().requires_grad_(False), "", "single_logit")
    changed = dataclasses.replace(SETTINGS, num_classes=2, activation="softmax", class_scores="single_logit")
    pipeline = Pipeline(model, Labels(("not red", "red")), changed, CPU)
    answered = result(pipeline, ask(IMAGE, explain=2))
    z = 8 / 2 - 4 / 4 - 1
    red, other = answered.explanations
    assert (red.prediction.label, other.prediction.label) == ("red", "not red")
    assert red.prediction.probability == pytest.approx(1 / (1 + np.exp(-z)), rel=1e-5)
    assert other.prediction.probability == pytest.approx(1 / (1 + np.exp(z)), rel=1e-5)
    # The cells' red, of which green counts half as much against it; the other class reverses the sign.
    np.testing.assert_allclose(red.heatmap, [[1, 0], [1, 0]], atol=1e-6)
    np.testing.assert_allclose(other.heatmap, [[0, 1], [0, 0]], atol=1e-6)
