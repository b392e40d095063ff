"""Convolutions as oneDNN runs them fastest, on CPUs: weights in its own layout, and what follows done in the same pass.

Torch itself hands a convolution to oneDNN with its weights in torch's layout; each call reorders them, the batch norm
behind it is a pass over memory of its own, and so are an addition and a ReLU. Here batch norms are folded into the
weights, and these are reordered once. It is what torch.compile does with a frozen network, without its compiler.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional

NO_ACTIVATION: tuple[str, list[float]] = ("none", [])
# What follows a convolution, and what oneDNN calls it, with its limits.
ACTIVATIONS: dict[Any, tuple[str, list[float]]] = {
    **dict.fromkeys(
        (nn.ReLU, functional.relu, functional.relu_, torch.relu, torch.relu_, "relu", "relu_"), ("relu", [])
    ),
    **dict.fromkeys((nn.ReLU6, functional.relu6), ("hardtanh", [0.0, 6.0])),
    **dict.fromkeys((nn.Hardswish, functional.hardswish), ("hardswish", [])),
}
ADDITIONS: tuple[Any, ...] = (operator.add, operator.iadd, torch.add, "add", "add_")

# Arguments of `functional.conv2d`: images, weight, bias, stride, padding, dilation, groups.
CONV2D_ARGUMENTS = 7


class PackedConvolution(nn.Module):
    """A convolution with its weights in oneDNN's layout, and the addition and the activation that follow it, if any."""

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
        self.activation = NO_ACTIVATION

    def forward(self, images: Tensor, summand: Tensor | None = None) -> Tensor:
        """Returns the convolution of (B, C, H, W), plus the summand, through the activation: (B, c, h, w)."""
        convolve: Callable[..., Tensor] = torch.ops.mkldnn._convolution_pointwise
        operands = (self.weight, self.bias, *self.geometry)
        name, limits = self.activation
        if summand is None:
            return convolve(images, *operands, name, limits, "")
        return convolve(images, summand, *operands, "add", 1.0, None if name == "none" else name, limits, None)


def pack(network: fx.GraphModule, images: Tensor) -> fx.GraphModule:
    """Returns the network with its convolutions packed; the given one stays as it is.

    Args:
        network: in eval mode, float32, on the CPU.
        images: (B, 3, H, W) such as it will be given.
    """
    # Another graph of the same modules, so that no weight is there twice; then batch norms are folded into copies of
    # the convolutions in front of them.
    packed = fx.GraphModule(network, copy.deepcopy(network.graph))
    for node in packed.graph.nodes:
        _make_module(packed, node)
    _separate(packed)
    packed = cast(fx.GraphModule, fuse(packed, inplace=True, no_trace=True))
    shapes = _shapes(packed, images)
    for node in packed.graph.nodes:
        if _can_be_packed(module := _called(packed, node)) and node.args:
            convolution = _with_padding(packed, node, module)
            packed.set_submodule(node.target, PackedConvolution(convolution, shapes[node.args[0]]))
    for fuse_into_convolution in (_fuse_addition, _fuse_activation):
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


def _make_module(network: fx.GraphModule, node: fx.Node) -> None:
    """Puts an `nn.Conv2d` in place of a call of the function, which is what classes made from it come to."""
    if node.target is not functional.conv2d or len(node.args) != CONV2D_ARGUMENTS:
        return
    images, weight, bias, *geometry = cast(tuple[Any, ...], node.args)
    read = [value for value in (weight, bias) if value is not None]
    # What is computed may be another with the next images.
    if any(value.op != "get_attr" for value in read) or set(node.all_input_nodes) != {images, *read}:
        return
    convolution = _convolution(_read(network, weight), None if bias is None else _read(network, bias), geometry)
    _set_module(network, node, convolution)
    node.args = (images,)
    for value in read:
        if not value.users:
            network.graph.erase_node(value)


def _read(network: fx.GraphModule, node: fx.Node) -> Tensor:
    owner, _, name = str(node.target).rpartition(".")
    return cast(Tensor, getattr(network.get_submodule(owner), name))


def _set_module(network: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    """Has a node call a module of its own."""
    node.op, node.target = "call_module", f"{node.name}_alone"
    network.add_submodule(node.target, module)


def _separate(network: fx.GraphModule) -> None:
    """Gives each call of a convolution a module of its own, so that what is around one call changes no other."""
    called = set()
    for node in network.graph.nodes:
        if _can_be_packed(module := _called(network, node)):
            if node.target in called:
                geometry = (module.stride, module.padding, module.dilation, module.groups)
                _set_module(network, node, _convolution(module.weight, module.bias, geometry))
            called.add(node.target)


def _convolution(weight: Tensor, bias: Tensor | None, geometry: Sequence[Any]) -> nn.Conv2d:
    """Returns a convolution of these very parameters; the geometry is stride, padding, dilation, groups."""
    outputs, inputs, height, width = weight.shape
    stride, padding, dilation, groups = geometry
    channels = inputs * groups
    convolution = nn.Conv2d(channels, outputs, (height, width), stride, padding, dilation, groups, device="meta")
    convolution.weight = nn.Parameter(weight, requires_grad=False)
    convolution.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    return convolution.eval()


def _with_padding(network: fx.GraphModule, node: fx.Node, convolution: nn.Conv2d) -> nn.Conv2d:
    """Takes out an `nn.ZeroPad2d` in front of a convolution; returns one that pads by itself.

    A convolution pads both sides alike. Where one side has to have more, both get as much, and the kernel gets rows or
    columns of zeros that lie on the surplus.
    """
    (before,) = node.all_input_nodes
    zeros = _called(network, before)
    if type(zeros) is not nn.ZeroPad2d or len(before.users) > 1 or not before.args:
        return convolution
    # What lies between might change what is padded, in place.
    if before is not node.prev:
        return convolution
    if min(zeros.padding) < 0 or tuple(convolution.dilation) != (1, 1):
        return convolution
    left, right, top, bottom = zeros.padding
    y, x = max(top, bottom), max(left, right)
    weight = functional.pad(convolution.weight.detach(), (x - left, x - right, y - top, y - bottom))
    padding = (int(convolution.padding[0]) + y, int(convolution.padding[1]) + x)
    node.args = (before.args[0],)
    network.graph.erase_node(before)
    geometry = (convolution.stride, padding, convolution.dilation, convolution.groups)
    return _convolution(weight, convolution.bias, geometry)


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


def _fuse_activation(network: fx.GraphModule, activation: fx.Node, shapes: dict[Any, torch.Size]) -> None:
    module = _called(network, activation)
    known = ACTIVATIONS.get(activation.target if module is None else type(module))
    if known is None or len(activation.all_input_nodes) != 1:
        return
    (convolution,) = activation.all_input_nodes
    packed = _fusible(network, convolution, activation)
    if packed is None or packed.activation != NO_ACTIVATION:
        return
    # After an addition oneDNN knows this one only.
    if len(convolution.args) == 1 or known[0] == "relu":
        packed.activation = known
        _replace(network, activation, convolution)


def _fusible(network: fx.GraphModule, convolution: fx.Node, reader: fx.Node) -> PackedConvolution | None:
    """Returns a node's packed convolution, if nothing else reads what it gives."""
    module = _called(network, convolution)
    return module if isinstance(module, PackedConvolution) and set(convolution.users) == {reader} else None


def _replace(network: fx.GraphModule, node: fx.Node, by: fx.Node) -> None:
    node.replace_all_uses_with(by)
    network.graph.erase_node(node)
