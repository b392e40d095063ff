"""The layer that is explained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradcam.errors import UnknownName, suggestions, truncated_repr
from gradcam.network.architecture import NetworkError
from gradcam.network.layout import Layout


def default_layer(network: nn.Module, input_size: tuple[int, int]) -> str:
    """Returns the name of the layer that is explained where none is named.

    That is the last convolution, as in the Grad-CAM tutorial: `layer4.1.conv2` in a ResNet-18. The last one
    *executed*, with an output that is a grid of positions: squeeze-and-excitation blocks have convolutions on a
    single position.

    Where the classifier sees more than that convolution, the last layer with weights is taken that has it all: behind
    a concatenation of branches (DenseNet, Inception), and where attention follows (ViT, Swin, MaxViT).

    Raises:
        NetworkError: no layer has an output that is a grid of positions.
    """
    calls = _execute(network, input_size)
    attention = [call.name for call in calls if "Attention" in type(call.module).__name__]
    # What is inside of attention (queries, keys, values) is no image of the picture, though it has a place for each.
    grids = [
        call for call in calls if call.channels and not call.name.startswith(tuple(f"{name}." for name in attention))
    ]
    if not grids:
        raise NetworkError("no layer of the network has an output that lies on the picture; name one (--layer)")
    last = grids[-1]
    convolution = next((call for call in reversed(grids) if isinstance(call.module, nn.Conv2d)), None)
    if convolution is None or convolution.channels < last.channels:
        return last.name
    behind = {call.name for call in calls[calls.index(convolution) :]}
    return last.name if behind.intersection(attention) else convolution.name


@dataclass(frozen=True, eq=False)
class Call:
    """A module with weights that was executed on one image."""

    name: str
    module: nn.Module
    channels: int
    """Of an output that is a grid of positions through which the prediction is reached; 0 of any other."""


def _execute(network: nn.Module, input_size: tuple[int, int]) -> list[Call]:
    """Returns the modules with weights, in the order in which they ended on a random image.

    Of several that end with the very same output, as a container does with its last module, only the first counts.
    """
    ended: list[tuple[str, nn.Module, Any]] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, inputs, output: ended.append((name, module, output))

    hooks = [
        module.register_forward_hook(note(name))
        for name, module in network.named_modules()
        if name and any(True for _ in module.parameters())
    ]
    image = torch.randn(1, 3, *input_size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    try:
        with torch.enable_grad():
            logits = network(image)  # (1, K)
    finally:
        for hook in hooks:
            hook.remove()
    outputs = {id(output): output for _, _, output in ended}.values()
    tensors = [output for output in outputs if isinstance(output, Tensor) and output.requires_grad]
    gradients = torch.autograd.grad(logits.max(), tensors, allow_unused=True)
    reached = {id(t): gradient for t, gradient in zip(tensors, gradients, strict=True) if gradient is not None}
    return [
        Call(name, module, _channels(module, reached.pop(id(output), None), input_size))
        for name, module, output in ended
    ]


def _channels(module: nn.Module, gradient: Tensor | None, input_size: tuple[int, int]) -> int:
    layout = None if gradient is None else Layout.of(module, tuple(gradient.shape), input_size)
    if gradient is None or layout is None:
        return 0
    grid = layout.to_grid(gradient)  # (1, C, h, w)
    positions = grid.abs().sum(dim=1).count_nonzero()
    return grid.shape[1] if positions > 1 else 0


def check_layer(network: nn.Module, name: str) -> None:
    """Checks that the network has a module of that name.

    Raises:
        UnknownName: it has not; the message names near ones.
    """
    names = [known for known, _ in network.named_modules() if known]
    if name not in names:
        raise UnknownName(
            f"the network has no layer {truncated_repr(name)}{suggestions(name, names)}", code="unknown_layer"
        )
