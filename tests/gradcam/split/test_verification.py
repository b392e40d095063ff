"""Networks and layers that the verification rejects."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from gradcam.split.parts import SplitError
from gradcam.split.splitter import split
from tests.support.split_networks import (
    SIZE,
    TOY_SIZE,
    Toy,
    real,
    rejected,
    toy,
)


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, x: m.end(m.layer(m.first(x)).detach()),
        lambda m, x: m.end((m.layer(m.first(x)) > 0).float()),
        # The root's slope is infinite at 0, where that of the product is 0: their product is NaN.
        lambda m, x: m.end((m.layer(m.first(x)) * 0).sqrt()),
    ],
    ids=["detached", "compared", "nan"],
)
def test_layer_without_gradients_is_rejected(forward: Callable[[Toy, Tensor], Tensor]) -> None:
    rejected(forward)


MIXED: dict[str, Callable[[Toy, Tensor], Tensor]] = {
    "centered before the layer": lambda m, x: m.end(m.layer(m.first(x - x.mean(0)))),
    "divided by the brightest of all": lambda m, x: m.end(m.layer(m.first(x / x.max()))),
    "centered after the layer": lambda m, x: m.end(
        m.layer(m.first(x)) - m.layer.bias.mean() - x.mean()  # type: ignore[union-attr]
    ),
    "sorted after the layer": lambda m, x: m.end(m.layer(m.first(x)).sort(dim=0).values),
    "only the first image is changed": lambda m, x: m.end(m.layer(m.first(x + F.pad(x[1:], (0,) * 7 + (1,))))),
}


@pytest.mark.parametrize("name", MIXED)
def test_network_that_mixes_images_is_rejected(name: str) -> None:
    rejected(MIXED[name])


def test_network_in_training_mode_is_rejected() -> None:
    with pytest.raises(SplitError, match=r"layer4\.1\.conv2"):
        split(real("resnet18").train(), "layer4.1.conv2", SIZE)


@pytest.mark.parametrize("layer", ["first", "classes"])
def test_network_with_nan_weights_is_rejected(layer: str) -> None:
    model = toy(lambda m, x: m.end(m.layer(m.first(x))))
    model.get_parameter(f"{layer}.weight").view(-1)[0] = math.nan
    with pytest.raises(SplitError, match="'layer'"):
        split(model, "layer", TOY_SIZE)


def test_no_hook_remains_after_a_rejection() -> None:
    model = toy(lambda m, x: m.end(m.layer(m.first(x)).sort(dim=0).values))
    with pytest.raises(SplitError):
        split(model, "layer", TOY_SIZE)
    assert not any(module._forward_hooks for module in model.modules())
