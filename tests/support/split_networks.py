"""Networks to split, and the comparison of a split with autograd through the whole network."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from gradcam.network.architecture import build
from gradcam.split.parts import Split, SplitError
from gradcam.split.splitter import split
from tests.support import oracles

CLASSES = 10

SIZE = (64, 96)

SMALL = (32, 64)


@functools.cache
def _seeded(architecture: str) -> nn.Module:
    if architecture == "googlenet":
        model = torchvision.models.googlenet(weights=None, num_classes=CLASSES, init_weights=False, aux_logits=False)
    elif architecture == "vgg11":
        # Its own classifier has 100 million parameters, which are irrelevant to the split.
        with torch.device("meta"):
            model = torchvision.models.vgg11(num_classes=CLASSES)
        model.classifier = nn.Linear(512 * 7 * 7, CLASSES, device="meta")
        model = model.to_empty(device="cpu")
    else:
        model = build(architecture, CLASSES)
    return oracles.seeded(model)


def real(architecture: str) -> nn.Module:
    return copy.deepcopy(_seeded(architecture))


def some_images(count: int, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(7))  # (count, 3, H, W)


def assert_same(ours: Tensor, theirs: Tensor, what: str, tolerance: float = 1e-5) -> None:
    """Check equality up to float32 rounding: the largest difference relative to the largest value."""
    assert ours.shape == theirs.shape, what
    scale = float(theirs.abs().max())
    assert scale > 0, f"{what}: equality of zeros is meaningless"
    difference = float((ours - theirs).abs().max()) / scale
    assert difference <= tolerance, f"{what}: {difference:.2e} apart"


def explain(parts: Split, images: Tensor, rows: list[int], classes: list[int]) -> oracles.Observed:
    """Run the parts as the pipeline does."""
    with torch.inference_mode():
        features = parts.features(images)
        parts.logits(features)  # must not modify the features
    selected = features.rows(torch.tensor(rows))
    with torch.no_grad():
        logits = parts.logits(selected)
    gradients = parts.gradients(selected, lambda logits: logits.gather(1, torch.tensor(classes)[:, None])[:, 0])
    return oracles.Observed(selected.activations, gradients, logits)


def assert_faithful(parts: Split, original: nn.Module, images: Tensor) -> None:
    """Check that the parts compute the logits, activations, and gradients of `original`."""
    with torch.no_grad():
        assert_same(parts.logits(parts.features(images)), original(images), "logits")
    rows, classes = [1, 0, 1], [0, 1, 3]
    expected = oracles.autograd_at(original, parts.layer, images[rows], classes)
    observed = explain(parts, images, rows, classes)
    assert_same(observed.activations, expected.activations, "activations")
    assert_same(observed.logits, expected.logits, "logits of the rows")
    assert_same(observed.gradients, expected.gradients, "gradients")


class Toy(nn.Module):
    """Two convolutions and a linear layer, which each network combines in its own `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.layer = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5, inplace=True)
        self.same = nn.Identity()
        self.table = nn.Parameter(torch.empty(1, 4, 1, 1))
        self.classes = nn.Linear(4, 5)

    def end(self, h: Tensor) -> Tensor:
        logits: Tensor = self.classes(h.mean((2, 3)))
        return logits


class CustomForward(Toy):
    """A toy network whose `forward` is a function."""

    def __init__(self, function: Callable[[Toy, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


TOY_SIZE = (8, 10)


def toy(function: Callable[[Toy, Tensor], Tensor]) -> nn.Module:
    return oracles.seeded(CustomForward(function))


def assert_served(function: Callable[[Toy, Tensor], Tensor], layer: str = "layer") -> None:
    model = toy(function)
    original = copy.deepcopy(model)
    parts = split(model, layer, TOY_SIZE)
    assert_faithful(parts, original, some_images(2, TOY_SIZE))
    with torch.no_grad():
        assert torch.equal(model(some_images(2, TOY_SIZE)), original(some_images(2, TOY_SIZE)))


def rejected(function: Callable[[Toy, Tensor], Tensor], match: str | None = None, layer: str = "layer") -> None:
    with pytest.raises(SplitError, match=match) as caught:
        split(toy(function), layer, TOY_SIZE)
    assert repr(layer) in str(caught.value)
