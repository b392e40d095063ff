"""Split method `fx`, on networks as users write them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from gradcam.split.splitter import split
from tests.support import oracles
from tests.support.split_networks import (
    TOY_SIZE,
    Toy,
    assert_faithful,
    assert_served,
    some_images,
)

IN_PLACE: dict[str, Callable[[Toy, Tensor], Tensor]] = {
    "nn.ReLU(inplace)": lambda m, x: m.end(m.act(m.layer(m.first(x)))),
    "F.relu(inplace=True)": lambda m, x: m.end(F.relu(m.layer(m.first(x)), inplace=True)),
    "F.relu(x, True)": lambda m, x: m.end(F.relu(m.layer(m.first(x)), True)),
    "F.leaky_relu(inplace)": lambda m, x: m.end(F.leaky_relu(m.layer(m.first(x)), 0.2, inplace=True)),
    "F.hardtanh_": lambda m, x: m.end(F.hardtanh_(m.layer(m.first(x)), -0.3, 0.3)),
    "torch.relu_": lambda m, x: m.end(torch.relu_(m.layer(m.first(x)))),
    "torch.sigmoid_": lambda m, x: m.end(torch.sigmoid_(m.layer(m.first(x)))),
    "one after the other": lambda m, x: m.end(m.layer(m.first(x)).add_(1).mul_(3).relu_()),
    "x.relu_()": lambda m, x: m.end(m.layer(m.first(x)).relu_()),
    "x.clamp_()": lambda m, x: m.end(m.layer(m.first(x)).clamp_(min=-0.1)),
    "after an identity": lambda m, x: m.end(m.act(m.same(m.layer(m.first(x))))),
    "after an idle in-place dropout": lambda m, x: m.end(m.act(m.drop(m.layer(m.first(x))))),
    "on a view": lambda m, x: m.classes(m.layer(m.first(x)).flatten(2).mul_(1.5).sigmoid_().mean(2)),
    "on a slice": lambda m, x: m.end(sliced(m.layer(m.first(x)))),
    "in place later": lambda m, x: m.end(m.act(m.layer(m.first(x)) * 2 + 1)),
}


def sliced(h: Tensor) -> Tensor:
    h[:, :2].mul_(3)
    return h


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_operation_after_the_layer(name: str) -> None:
    assert_served(IN_PLACE[name])


def augmented(h: Tensor, other: Tensor, operation: str) -> Tensor:
    if operation == "+=":
        h += other
    elif operation == "-=":
        h -= other
    elif operation == "*=":
        h *= other
    elif operation == "/=":
        h /= other.abs() + 1
    else:
        h **= 2
    return h


@pytest.mark.parametrize("operation", ["+=", "-=", "*=", "/=", "**="])
def test_augmented_assignment_to_the_layers_output(operation: str) -> None:
    def forward(m: Toy, x: Tensor) -> Tensor:
        skip = m.first(x)
        return m.end(augmented(m.layer(skip), skip, operation).tanh())

    assert_served(forward)


@pytest.mark.parametrize("operation", ["+=", "-=", "*=", "/="])
def test_augmented_assignment_to_a_value_that_bypasses_the_layer(operation: str) -> None:
    def forward(m: Toy, x: Tensor) -> Tensor:
        skip = m.first(x)
        return m.end(augmented(skip, m.layer(skip), operation).tanh())

    assert_served(forward)


def result_ignored_module(m: Toy, x: Tensor) -> Tensor:
    h = m.layer(m.first(x))
    m.act(h)
    return m.end(h)


def result_ignored_method(m: Toy, x: Tensor) -> Tensor:
    h = m.layer(m.first(x))
    h.relu_()
    return m.end(h)


def result_ignored_function(m: Toy, x: Tensor) -> Tensor:
    h = m.layer(m.first(x))
    torch.relu_(h)
    return m.end(h)


def skip_is_overwritten_module(m: Toy, x: Tensor) -> Tensor:
    h = m.first(x)
    return m.end(m.layer(m.act(h)) + h)


def skip_is_overwritten_function(m: Toy, x: Tensor) -> Tensor:
    h = m.first(x)
    return m.end(m.layer(F.relu(h, inplace=True)) + h)


def output_is_read_after_it_is_overwritten(m: Toy, x: Tensor) -> Tensor:
    h = m.layer(m.first(x))
    return m.end(m.act(h) * 2 - h.exp())


def skip_is_added_to(m: Toy, x: Tensor) -> Tensor:
    h = m.first(x)
    skip = h
    h = m.layer(h)
    skip.add_(h)
    return m.end(h * skip)


def output_is_read_before_it_is_overwritten(m: Toy, x: Tensor) -> Tensor:
    h = m.layer(m.first(x))
    return m.end(h.exp() - m.act(h) * 2)


OVERWRITTEN = [
    result_ignored_module,
    result_ignored_method,
    result_ignored_function,
    skip_is_overwritten_module,
    skip_is_overwritten_function,
    skip_is_added_to,
    output_is_read_after_it_is_overwritten,
    output_is_read_before_it_is_overwritten,
]


@pytest.mark.parametrize("forward", OVERWRITTEN, ids=lambda forward: forward.__name__)
def test_value_read_again_after_it_is_overwritten(forward: Callable[[Toy, Tensor], Tensor]) -> None:
    # Rewritten out of place, such a network computes something else, and verifying against that would be meaningless.
    assert_served(forward)


CROSSINGS: dict[str, Callable[[Toy, Tensor], Tensor]] = {
    "two tensors": lambda m, x: m.end(m.layer(m.first(x)) * m.first(x).sigmoid() + x.mean(1, keepdim=True)),
    "a vector per image": lambda m, x: m.end(m.layer(m.first(x)) * x.amax((1, 2, 3))[:, None, None, None]),
    "the batch size": lambda m, x: m.classes(m.layer(m.first(x)).reshape(x.size(0), 4, -1).mean(2)),
    "the batch size, from the shape": lambda m, x: m.classes(m.layer(m.first(x)).reshape(x.shape[0], 4, -1).mean(2)),
    "the width": lambda m, x: m.end(m.layer(m.first(x)) / x.shape[3]),
    "the size": lambda m, x: m.end(F.interpolate(m.layer(m.first(x)), size=x.shape[2:], mode="nearest").sigmoid()),
    "a parameter": lambda m, x: m.end(m.layer(m.first(x)) * m.table),
    "a value computed from a parameter": lambda m, x: m.end(m.layer(m.first(x)) * m.table.exp()),
    "a number": lambda m, x: m.end(m.layer(m.first(x)) * 0.5 + math.pi),
    "parts of a split tensor": lambda m, x: m.end(
        m.layer(m.first(x)) + m.first(x).chunk(2, dim=1)[0].repeat(1, 2, 1, 1)
    ),
}


@pytest.mark.parametrize("name", CROSSINGS)
def test_other_values_at_the_split_point(name: str) -> None:
    assert_served(CROSSINGS[name])


def test_multiple_of_the_batch_size_at_the_split_point() -> None:
    # Four heads folded into the batch, as attention does.
    def forward(m: Toy, x: Tensor) -> Tensor:
        folded = x.shape[0] * 4
        return m.classes(m.layer(m.first(x)).reshape(folded, -1).mean(1).reshape(-1, 4))

    assert_served(forward)


class TwoInputs(Toy):
    """A network with a second, optional input, such as an attention mask."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        h = self.layer(self.first(x))
        if mask is not None:
            h = h * mask
        return self.end(h)


def test_optional_input_keeps_its_default() -> None:
    model = oracles.seeded(TwoInputs())
    original = copy.deepcopy(model)
    assert_faithful(split(model, "layer", TOY_SIZE), original, some_images(2, TOY_SIZE))
