"""Operators of backward passes as operators that ONNX and OpenVINO have.

torch has decompositions of nearly all: `torch.export.default_decompositions`. Those here are missing there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

aten = torch.ops.aten


def decompositions() -> Any:
    """Return torch's table of decompositions, with the missing ones added."""
    table: Any = torch.export.default_decompositions()
    table.update(
        {
            aten.max_pool2d_with_indices_backward.default: max_pool_backward,
            aten._adaptive_avg_pool2d_backward.default: adaptive_average_pool_backward,
            aten.avg_pool2d_backward.default: average_pool_backward,
            aten.convolution_backward.default: convolution_backward,
            aten.copy.default: copy,
        }
    )
    return table


def max_pool_backward(  # noqa: PLR0913, PLR0917  the operator's signature
    gradients: Tensor,
    images: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    indices: Tensor,
) -> Tensor:
    """Add each output's gradient (N, C, h, w) to the position (of H·W) that was the maximum."""
    zeros = torch.zeros_like(images).flatten(2)  # (N, C, H, W) → (N, C, H·W)
    return zeros.scatter_add(2, indices.flatten(2), gradients.flatten(2)).reshape(images.shape)


def adaptive_average_pool_backward(gradients: Tensor, images: Tensor) -> Tensor:
    """Spread each output's gradient (N, C, h, w) evenly over its window.

    Pooling is linear and treats rows and columns alike: output = R·image·Cᵀ with constant matrices R and C. So the
    gradient is Rᵀ·gradients·C.
    """
    rows = _window_weights(gradients.shape[2], images.shape[2]).to(gradients)  # (h, H)
    columns = _window_weights(gradients.shape[3], images.shape[3]).to(gradients)  # (w, W)
    return rows.T @ gradients @ columns  # (N, C, h, w) → (N, C, H, W)


def _window_weights(outputs: int, inputs: int) -> Tensor:
    """Return the weight (outputs, inputs) of each input in each output, as `adaptive_avg_pool` chooses its windows."""
    position, start = torch.arange(inputs), torch.arange(outputs)
    first = (start * inputs) // outputs  # (outputs,)
    last = ((start + 1) * inputs + outputs - 1) // outputs  # exclusive
    inside = (position >= first[:, None]) & (position < last[:, None])
    return inside / (last - first)[:, None]


def average_pool_backward(  # noqa: PLR0913, PLR0917  the operator's signature
    gradients: Tensor,
    images: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    """Spread each output's gradient (N, C, h, w) evenly over its window: a transposed convolution per channel."""
    channels = images.shape[1]
    stride = stride or kernel_size
    ones = torch.ones(channels, 1, *kernel_size).to(gradients)
    if count_include_pad or divisor_override or not any(padding):
        counts: Tensor | int = divisor_override or kernel_size[0] * kernel_size[1]
    else:
        inside = torch.ones(1, 1, *images.shape[2:]).to(gradients)
        counts = functional.conv2d(inside, ones[:1], stride=stride, padding=padding)  # (1, 1, h, w)
    extra = [
        size - ((steps - 1) * step - 2 * pad + kernel)
        for size, steps, step, pad, kernel in zip(
            images.shape[2:], gradients.shape[2:], stride, padding, kernel_size, strict=True
        )
    ]
    return functional.conv_transpose2d(
        gradients / counts, ones, stride=stride, padding=padding, output_padding=extra, groups=channels
    )


def convolution_backward(  # noqa: PLR0913, PLR0917  the operator's signature
    gradients: Tensor,
    images: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of the images: a transposed convolution of those of the outputs, or the reverse.

    Raises:
        NotImplementedError: the gradients of weights are wanted; a network that is explained has constant weights.
    """
    if any(output_mask[1:]):
        raise NotImplementedError("gradients of a convolution's weights are not exported")
    if transposed:
        of_images = aten.convolution(gradients, weight, None, stride, padding, dilation, False, [0, 0], groups)
        return of_images, None, None
    sizes = zip(images.shape[2:], gradients.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    extra = [
        size - ((steps - 1) * step - 2 * pad + dilate * (kernel - 1) + 1)
        for size, steps, kernel, step, pad, dilate in sizes
    ]
    return aten.convolution(gradients, weight, None, stride, padding, dilation, True, extra, groups), None, None


def copy(values: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """Return what an assignment to `values` makes of them; the ONNX exporter forgets to expand the source."""
    return source.to(values.dtype).expand(values.shape)


class ContiguousPooling(TorchFunctionMode):
    """Pools contiguous tensors only: after pooling others to one position, torch sets strides, which graphs lack."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch."""
        if func is functional.adaptive_avg_pool2d:
            images, *others = args
            args = (images.contiguous(), *others)
        return func(*args, **kwargs or {})
