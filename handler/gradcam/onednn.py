"""Convolutions as oneDNN runs them fastest, on CPUs: weights in its own layout, and what follows done in the same pass.

Torch itself hands a convolution to oneDNN with its weights in torch's layout; each call reorders them, the batch norm
behind it is a pass over memory of its own, and so are an addition and a ReLU. Here batch norms are folded into the
weights, and these are reordered once. It is what torch.compile does with a frozen network, without its compiler.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional

RELUS: tuple[Any, ...] = (functional.relu, functional.relu_, torch.relu, torch.relu_, "relu", "relu_")
ADDITIONS: tuple[Any, ...] = (operator.add, operator.iadd, torch.add, "add", "add_")


class PackedConvolution(nn.Module):
    """A convolution with its weights in oneDNN's layout, and the addition and the ReLU that follow it, if any."""

    def __init__(self, convolution: nn.Conv2d, input_shape: torch.Size) -> None:
        """Reorders the weights, for images (B, C, H, W) of any number and size, best for those given."""
        super().__init__()
        self.geometry: tuple[Any, ...] = (
            convolution.padding,
            convolution.stride,
            convolution.dilation,
            convolution.groups,
        )
        reorder: Callable[..., Tensor] = torch._C._nn.mkldnn_reorder_conv2d_weight
        self.weight = reorder(convolution.weight.detach().to_mkldnn(), *self.geometry, input_shape)
        self.bias = None if convolution.bias is None else convolution.bias.detach()
        self.relu = False

    def forward(self, images: Tensor, summand: Tensor | None = None) -> Tensor:
        """Returns the convolution of (B, C, H, W), plus the summand, through the ReLU: (B, c, h, w)."""
        convolve: Callable[..., Tensor] = torch.ops.mkldnn._convolution_pointwise
        operands = (self.weight, self.bias, *self.geometry)
        if summand is None:
            return convolve(images, *operands, "relu" if self.relu else "none", [], "")
        return convolve(images, summand, *operands, "add", 1.0, "relu" if self.relu else None, [], None)


def pack(network: fx.GraphModule, images: Tensor) -> fx.GraphModule:
    """Returns the network with its convolutions packed; the given one stays as it is.

    Args:
        network: in eval mode, float32, on the CPU.
        images: (B, 3, H, W) such as it will be given.
    """
    # Another graph of the same modules, so that no weight is there twice; then batch norms are folded into copies of
    # the convolutions in front of them.
    packed = fx.GraphModule(network, copy.deepcopy(network.graph))
    packed = cast(fx.GraphModule, fuse(packed, inplace=True, no_trace=True))
    shapes = _shapes(packed, images)
    for node in packed.graph.nodes:
        if _can_be_packed(module := _called(packed, node)) and node.args:
            packed.set_submodule(node.target, PackedConvolution(module, shapes[node.args[0]]))
    for fuse_into_convolution in (_fuse_addition, _fuse_relu):
        for node in list(packed.graph.nodes):
            fuse_into_convolution(packed, node, shapes)
    packed.delete_all_unused_submodules()
    packed.recompile()
    return packed


def _called(network: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def _can_be_packed(module: nn.Module | None) -> TypeGuard[nn.Conv2d]:
    # Classes made from Conv2d may do something else; a padding may be a word.
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)


class _Shapes(fx.Interpreter):
    """Runs a network and remembers the shapes of its tensors."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.shapes: dict[Any, torch.Size] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.shapes[n] = value.shape
        return value


def _shapes(network: fx.GraphModule, images: Tensor) -> dict[Any, torch.Size]:
    interpreter = _Shapes(network)
    with torch.no_grad():
        interpreter.run(images)
    return interpreter.shapes


def _fuse_addition(network: fx.GraphModule, addition: fx.Node, shapes: dict[Any, torch.Size]) -> None:
    """Has a convolution add what is added to its output, if that is there before it."""
    summands = addition.all_input_nodes
    if addition.target not in ADDITIONS or len(summands) != 2 or len(addition.args) != 2 or addition.kwargs:
        return
    order = {node: number for number, node in enumerate(network.graph.nodes)}
    summand, convolution = sorted(summands, key=lambda node: order[node])
    if len(convolution.args) != 1 or _fusible(network, convolution, addition) is None:
        return
    if not shapes.get(summand) == shapes.get(convolution) == shapes.get(addition):
        return
    # A node in between might change the summand in place.
    if not any(order[convolution] < order[reader] < order[addition] for reader in summand.users):
        convolution.args = (*convolution.args, summand)
        _replace(network, addition, convolution)


def _fuse_relu(network: fx.GraphModule, relu: fx.Node, shapes: dict[Any, torch.Size]) -> None:
    if type(_called(network, relu)) is not nn.ReLU and relu.target not in RELUS:
        return
    (convolution,) = relu.all_input_nodes
    if module := _fusible(network, convolution, relu):
        module.relu = True
        _replace(network, relu, convolution)


def _fusible(network: fx.GraphModule, convolution: fx.Node, reader: fx.Node) -> PackedConvolution | None:
    """Returns a node's packed convolution, if nothing else calls it and nothing else reads what it gives."""
    module = _called(network, convolution)
    calls = sum(node.op == "call_module" and node.target == convolution.target for node in network.graph.nodes)
    if isinstance(module, PackedConvolution) and calls == 1 and set(convolution.users) == {reader}:
        return module
    return None


def _replace(network: fx.GraphModule, node: fx.Node, by: fx.Node) -> None:
    node.replace_all_uses_with(by)
    network.graph.erase_node(node)
