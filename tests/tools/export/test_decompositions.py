"""Backward operators against autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tools.export.decompositions import (
    ContiguousPooling,
    adaptive_average_pool_backward,
    average_pool_backward,
    convolution_backward,
    copy,
    decompositions,
    max_pool_backward,
)


def by_autograd(pool: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Return random gradients of the pooled images, and the images' gradients."""
    leaf = images.clone().requires_grad_()
    pooled = pool(leaf)
    gradients = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(1))
    (expected,) = torch.autograd.grad(pooled, leaf, gradients)
    return gradients, expected


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (4, 7), (9, 11), (12, 13)])
def test_adaptive_average_pool(size: tuple[int, int], images: Tensor) -> None:
    gradients, expected = by_autograd(lambda leaf: functional.adaptive_avg_pool2d(leaf, size), images)
    torch.testing.assert_close(adaptive_average_pool_backward(gradients, images), expected)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "ceil"),
    [
        ([2, 2], [2, 2], [0, 0], [1, 1], False),
        ([3, 3], [2, 2], [1, 1], [1, 1], True),
        ([3, 2], [1, 2], [1, 0], [2, 1], False),
    ],
)
def test_max_pool(
    kernel: list[int], stride: list[int], padding: list[int], dilation: list[int], ceil: bool, images: Tensor
) -> None:
    arguments = (kernel, stride, padding, dilation, ceil)
    gradients, expected = by_autograd(lambda leaf: functional.max_pool2d(leaf, *arguments), images)
    _, indices = functional.max_pool2d_with_indices(images, *arguments)
    torch.testing.assert_close(max_pool_backward(gradients, images, *arguments, indices), expected)


@pytest.mark.parametrize("include_pad", [True, False])
@pytest.mark.parametrize("divisor", [None, 5])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [([2, 2], [2, 2], [0, 0]), ([3, 3], [1, 2], [1, 1]), ([3, 2], [], [1, 0])]
)
def test_average_pool(
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    divisor: int | None,
    include_pad: bool,
    images: Tensor,
) -> None:
    arguments = (kernel, stride, padding, False, include_pad, divisor)
    gradients, expected = by_autograd(
        lambda leaf: functional.avg_pool2d(leaf, kernel, stride or None, padding, False, include_pad, divisor), images
    )
    torch.testing.assert_close(average_pool_backward(gradients, images, *arguments), expected)


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [([1, 1], [0, 0], [1, 1], 1), ([2, 2], [1, 1], [1, 1], 3), ([2, 3], [1, 0], [2, 1], 1)],
)
def test_convolution(stride: list[int], padding: list[int], dilation: list[int], groups: int, images: Tensor) -> None:
    weight = torch.randn(6, 3 // groups, 3, 2, generator=torch.Generator().manual_seed(2))
    gradients, expected = by_autograd(
        lambda leaf: functional.conv2d(leaf, weight, None, stride, padding, dilation, groups), images
    )
    geometry = (stride, padding, dilation, False, [0, 0], groups)
    found, *others = convolution_backward(gradients, images, weight, None, *geometry, [True, False, False])
    torch.testing.assert_close(found, expected)
    assert others == [None, None]
    with pytest.raises(NotImplementedError, match="weights"):
        convolution_backward(gradients, images, weight, None, *geometry, [True, True, False])


def test_transposed_convolution(images: Tensor) -> None:
    weight = torch.randn(3, 6, 3, 2, generator=torch.Generator().manual_seed(2))
    gradients, expected = by_autograd(
        lambda leaf: functional.conv_transpose2d(leaf, weight, None, (2, 2), (1, 0), (1, 1)), images
    )
    geometry = ([2, 2], [1, 0], [1, 1], True, [1, 1], 1)
    found, *_ = convolution_backward(gradients, images, weight, None, *geometry, [True, False, False])
    torch.testing.assert_close(found, expected)


def test_copy_expands_its_source() -> None:
    torch.testing.assert_close(copy(torch.zeros(2, 3), torch.tensor(5)), torch.full((2, 3), 5.0))


def test_pooling_sets_no_strides(images: Tensor) -> None:
    channels_last = images.to(memory_format=torch.channels_last)
    with ContiguousPooling():
        pooled = functional.adaptive_avg_pool2d(channels_last, 1)
    assert pooled.stride() == (3, 1, 1, 1)
    torch.testing.assert_close(pooled, images.mean(dim=(2, 3), keepdim=True))


def test_torch_itself_lacks_the_added_decompositions() -> None:
    """An addition that torch has, too, should go."""
    default: Any = torch.export.default_decompositions()
    added = decompositions().keys() - default.keys()
    assert {str(operator) for operator in added} == {
        "aten.max_pool2d_with_indices_backward.default",
        "aten._adaptive_avg_pool2d_backward.default",
        "aten.avg_pool2d_backward.default",
        "aten.convolution_backward.default",
        "aten.copy.default",
    }
