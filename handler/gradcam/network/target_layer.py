"""The target layer: the module whose output is explained."""

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
    """Return the name of the layer to explain if the user names none.

    This is the last convolution, as in the Grad-CAM tutorial: `layer4.1.conv2` in a ResNet-18. "Last" means executed
    last, among convolutions whose output is a grid of positions (squeeze-and-excitation blocks have convolutions on
    a single position).

    If the classifier reads more than that convolution, this is the last layer with weights whose output contains all
    of it: after a concatenation of branches (DenseNet, Inception), or after attention (ViT, Swin, MaxViT).

    Raises:
        NetworkError: no layer's output is a grid of positions.
    """
    calls = _execute(network, input_size)
    attention = [call.name for call in calls if "Attention" in type(call.module).__name__]
    # Outputs inside attention blocks (queries, keys, values) have a spatial shape but are not feature maps.
    grids = [
        call for call in calls if call.channels and not call.name.startswith(tuple(f"{name}." for name in attention))
    ]
    if not grids:
        raise NetworkError("No layer's output is a grid of positions on the image; name the layer to explain (--layer)")
    last = grids[-1]
    convolution = next((call for call in reversed(grids) if isinstance(call.module, nn.Conv2d)), None)
    if convolution is None or convolution.channels < last.channels:
        return last.name
    later = {call.name for call in calls[calls.index(convolution) :]}
    return last.name if later.intersection(attention) else convolution.name


def check_layer(network: nn.Module, name: str) -> None:
    """Check that the network has a module of this name.

    Raises:
        UnknownName: it has none; the message suggests similar names.
    """
    names = [candidate for candidate, _ in network.named_modules() if candidate]
    if name not in names:
        raise UnknownName(f"Unknown layer {truncated_repr(name)}{suggestions(name, names)}", code="unknown_layer")


@dataclass(frozen=True, eq=False)
class _Call:
    """A module with weights that was executed on one image."""

    name: str
    module: nn.Module
    channels: int
    """Channels of the output if it is a grid of positions that the prediction depends on; otherwise 0."""


def _execute(network: nn.Module, input_size: tuple[int, int]) -> list[_Call]:
    """Return the modules with weights, in the order in which their calls ended on a random image.

    If several return the same tensor, as a container and its last module do, only the first counts as a grid.
    """
    ended: list[tuple[str, nn.Module, Any]] = []

    def record(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, inputs, output: ended.append((name, module, output))

    hooks = [
        module.register_forward_hook(record(name))
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
        _Call(name, module, _channels(module, reached.pop(id(output), None), input_size))
        for name, module, output in ended
    ]


def _channels(module: nn.Module, gradient: Tensor | None, input_size: tuple[int, int]) -> int:
    layout = None if gradient is None else Layout.of(module, tuple(gradient.shape), input_size)
    if gradient is None or layout is None:
        return 0
    grid = layout.to_grid(gradient)  # (1, C, h, w)
    positions = grid.abs().sum(dim=1).count_nonzero()  # (1, C, h, w) → (1, h, w) → ()
    return grid.shape[1] if positions > 1 else 0
