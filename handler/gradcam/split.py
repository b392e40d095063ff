"""The network, cut at the target layer into a trunk and a head.

The trunk takes images to the values at the cut: the activations of the target layer, and whatever
else the rest of the network needs (in a ResNet the residual branch that goes around the layer). The
head takes these to the logits. The trunk is the expensive part and never sees autograd; the head is
replayed with gradients for the (image, class) pairs that are to be explained.

Networks are cut with torch.fx. One that torch.fx cannot trace is cut with hooks: its trunk ends at the layer,
its head is the whole network with the layer's output substituted. The results are the same, the head is dearer.
"""

from __future__ import annotations

import inspect
import logging
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from gradcam.layout import Layout
from gradcam.network import check_layer

logger = logging.getLogger(__name__)

OUT_OF_PLACE: dict[Callable[..., Any], Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


class SplitError(ValueError):
    """A network that cannot be cut at this layer; the message names the layer and the reason."""


@dataclass(frozen=True)
class Features:
    """The values at the cut, of a batch of B images."""

    activations: Tensor
    """The target layer's output, (B, …), in the layer's own layout."""
    others: tuple[Tensor, ...]
    """What else the head needs, a tensor (B, …) each."""

    def float(self) -> Features:
        """Returns the values in float32, whatever the trunk ran in."""
        return Features(self.activations.float(), tuple(_float(other) for other in self.others))

    def rows(self, indices: Tensor) -> Features:
        """Returns a copy of the rows `indices` (N,), which autograd may enter where it may not enter these."""
        return Features(
            self.activations.index_select(0, indices),  # (B, …) → (N, …)
            tuple(other.index_select(0, indices) for other in self.others),
        )


@dataclass(frozen=True)
class Split:
    """A network in two parts that together compute exactly what it computes; `split` makes it."""

    layer: str
    trunk: nn.Module
    head: nn.Module
    way: Literal["fx", "hook"]
    layout: Layout
    """Of the layer's output."""
    pair_bytes: int
    """Memory that the replay of one (image, class) pair with gradients takes, as measured."""

    def features(self, images: Tensor) -> Features:
        """Runs the trunk on images (B, 3, H, W)."""
        activations, *others = self.trunk(images)
        return Features(activations, tuple(others))

    def logits(self, features: Features) -> Tensor:
        """Runs the head; returns (B, K)."""
        logits: Tensor = self.head(features.activations, *features.others)
        return logits

    def activations(self, features: Features) -> Tensor:
        """Returns the activations of N rows as (N, C, h, w)."""
        return self.layout.to_grid(features.activations)

    def gradients(self, features: Features, score: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns the gradient of each row's score with respect to that row's activations.

        Rows do not mix in a network in eval mode, so the gradient of the sum of the N scores holds them all
        (Selvaraju et al. 2017, the derivative in eq. 1). Gradients must be enabled.

        Args:
            features: N rows that are not inference tensors, as `Features.rows` returns them.
            score: takes the logits (N, K) to the scores (N,).

        Returns:
            (N, C, h, w).
        """
        leaf = features.activations.detach().requires_grad_()
        logits = self.logits(Features(leaf, features.others))  # (N, K)
        (gradients,) = torch.autograd.grad(score(logits).sum(), leaf)
        return self.layout.to_grid(gradients)


def split(network: nn.Module, layer: str, input_size: tuple[int, int]) -> Split:
    """Cuts a network in eval mode at `layer` and proves the parts equal to the whole on random images.

    Args:
        network: its in-place operations may be made out-of-place, which changes no result.
        layer: name of the module whose output is the cut.
        input_size: height and width of the images, in pixels.

    Raises:
        UnknownName: the network has no such layer.
        SplitError: the network cannot be cut or explained there.
    """
    check_layer(network, layer)
    images = _images(network, input_size, 3)
    activations, logits = _observe(network, layer, images)
    layout = _layout(network.get_submodule(layer), activations, layer, input_size)
    try:
        trunk, head = _cut_with_fx(network, layer, images)
        way: Literal["fx", "hook"] = "fx"
    except Untraceable as reason:
        logger.info("%s is cut with hooks: %s", layer, reason)
        trunk, head = _UpTo(network, layer), _From(network, layer)
        way = "hook"
    parts = Split(layer, trunk, head, way, layout, pair_bytes=0)
    _prove(parts, images, activations, logits)
    return replace(parts, pair_bytes=_pair_bytes(parts, images[:1]))


def _observe(network: nn.Module, layer: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """Runs the network as it is; returns the layer's output and the logits.

    Raises:
        SplitError: the layer is not executed exactly once, or gives or the network gives no tensor.
    """
    observed: list[Any] = []
    # Cloned, because an in-place operation behind the layer overwrites what the hook is given.
    hook = network.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: observed.append(output.clone() if isinstance(output, Tensor) else output)
    )
    try:
        with torch.no_grad():
            logits = network(images)  # (B, K)
    finally:
        hook.remove()
    if len(observed) != 1:
        executed = f"is executed {len(observed)} times" if observed else "is not executed"
        raise SplitError(f"cannot cut at {layer!r}: it {executed}; name a layer that is executed once")
    if not isinstance(observed[0], Tensor):
        raise SplitError(f"cannot cut at {layer!r}: its output is a {type(observed[0]).__name__}, not a tensor")
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        raise SplitError("the network's output must be one tensor of logits (batch, classes)")
    return observed[0], logits


def _layout(module: nn.Module, activations: Tensor, layer: str, input_size: tuple[int, int]) -> Layout:
    shape = tuple(activations.shape)
    layout = Layout.of(module, shape, input_size)
    if layout is None:
        raise SplitError(
            f"cannot explain {layer!r}: its output {shape[1:]} an image is no grid of positions on the picture"
        )
    return layout


# ----------------------------------------------------------------------------- with hooks


class _Reached(Exception):
    """The target layer has been executed; what comes after it is not needed."""


class _UpTo(nn.Module):
    """Trunk of a network that torch.fx cannot trace: images to the layer's output, and the images themselves."""

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        self.network = network
        self.layer = layer

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        outputs: list[Tensor] = []

        def stop(module: nn.Module, inputs: Any, output: Tensor) -> None:
            outputs.append(output)
            raise _Reached

        hook = self.network.get_submodule(self.layer).register_forward_hook(stop)
        try:
            self.network(images)
        except _Reached:
            pass
        finally:
            hook.remove()
        return outputs[0], images


class _From(nn.Module):
    """Head of a network that torch.fx cannot trace: the network, with the layer's output substituted."""

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        self.network = network
        self.layer = layer

    def forward(self, activations: Tensor, images: Tensor) -> Any:
        # Cloned, because what follows the layer may work in place, and a leaf must not be overwritten.
        hook = self.network.get_submodule(self.layer).register_forward_hook(
            lambda module, inputs, output: activations.clone()
        )
        try:
            return self.network(images)
        finally:
            hook.remove()


# ----------------------------------------------------------------------------- with torch.fx


class Untraceable(SplitError):
    """A network that torch.fx cannot cut at this layer, though it can be cut."""


def _cut_with_fx(network: nn.Module, layer: str, images: Tensor) -> tuple[nn.Module, nn.Module]:
    graph = _trace(network, layer)
    cut = _values_at_cut(graph, _only_call(graph, layer))
    _leave_values_alone(network, graph, cut)
    everything = fx.GraphModule(network, _trunk_graph(graph, cut))
    crossings = _crossings(everything, cut, images)
    rows = [node for node in cut if crossings[node] is Crossing.ROWS]
    trunk = fx.GraphModule(network, _trunk_graph(graph, rows))
    return trunk, fx.GraphModule(network, _head_graph(graph, rows, crossings))


class _Tracer(fx.Tracer):
    """Traces into everything but torch's own modules and the target layer."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.layer = layer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name == self.layer or super().is_leaf_module(m, module_qualified_name)


def _trace(network: nn.Module, layer: str) -> fx.Graph:
    try:
        return _Tracer(layer).trace(network)
    except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
        raise Untraceable(f"torch.fx cannot trace the network: {error}") from error


def _only_call(graph: fx.Graph, layer: str) -> fx.Node:
    calls: list[fx.Node] = [node for node in graph.nodes if node.op == "call_module" and node.target == layer]
    if len(calls) != 1:
        raise Untraceable("torch.fx does not see it as one call")
    return calls[0]


def _dependents(nodes: list[fx.Node]) -> set[fx.Node]:
    """Returns the nodes whose value depends on one of `nodes`, without these."""
    found: set[fx.Node] = set()
    waiting = [user for node in nodes for user in node.users]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(node.users)
    return found


def _from_images(graph: fx.Graph) -> set[fx.Node]:
    """Returns the images and all that is computed from them; the rest is the same for every batch."""
    images = [node for node in graph.nodes if node.op == "placeholder"]
    return {*images, *_dependents(images)}


def _values_at_cut(graph: fx.Graph, target: fx.Node) -> list[fx.Node]:
    """Returns the nodes that the trunk computes and the head reads, the target first.

    What does not depend on the images (parameters and what is computed from them) is computed in the head.
    """
    head = _dependents([target])
    trunk = _from_images(graph) - head - {target}
    return [target, *(node for node in graph.nodes if node in trunk and not head.isdisjoint(node.users))]


def _leave_values_alone(network: nn.Module, graph: fx.Graph, cut: list[fx.Node]) -> None:
    """Makes in-place operations out-of-place where they would overwrite a value that is read again."""
    for node in graph.nodes:
        if node.args and isinstance(node.args[0], fx.Node) and _is_in_place(network, node):
            overwritten = node.args[0]
            if overwritten in cut or len(overwritten.users) > 1:
                _make_out_of_place(network, node)


def _is_in_place(network: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return bool(getattr(network.get_submodule(str(node.target)), "inplace", False))
    if node.op == "call_method":
        name = str(node.target)
        return name.endswith("_") and not name.endswith("__")
    return node.target in OUT_OF_PLACE or bool(_arguments(node).get("inplace", False))


def _make_out_of_place(network: nn.Module, node: fx.Node) -> None:
    if node.op == "call_module":
        network.get_submodule(str(node.target)).inplace = False  # type: ignore[assignment]
    elif node.op == "call_method":
        node.target = str(node.target).removesuffix("_")
    elif callable(node.target) and node.target in OUT_OF_PLACE:
        node.target = OUT_OF_PLACE[node.target]
    else:
        arguments = _arguments(node)
        node.args, node.kwargs = (), {**arguments, "inplace": False}


def _arguments(node: fx.Node) -> dict[str, Any]:
    """Returns a function call's arguments by name, or none where the function has no signature to read."""
    if node.op != "call_function" or not callable(node.target):
        return {}
    try:
        return dict(inspect.signature(node.target).bind(*node.args, **node.kwargs).arguments)
    except (TypeError, ValueError):
        return {}


def _trunk_graph(graph: fx.Graph, outputs: list[fx.Node]) -> fx.Graph:
    """Returns the graph from the images to the `outputs`, the first of which is the target."""
    trunk = fx.Graph()
    copies: dict[fx.Node, fx.node.Argument] = {}
    head = _dependents([outputs[0]])
    _copy([node for node in graph.nodes if node in _from_images(graph) - head], trunk, copies)
    trunk.output(tuple(copies[node] for node in outputs))
    return trunk


def _head_graph(graph: fx.Graph, rows: list[fx.Node], crossings: dict[fx.Node, Crossing | Constant]) -> fx.Graph:
    """Returns the graph from the rows at the cut to the logits.

    The number of images is read from the activations: the head may be given more rows than the trunk.
    """
    head = fx.Graph()
    copies: dict[fx.Node, fx.node.Argument] = {node: head.placeholder(node.name) for node in rows}
    for node, crossing in crossings.items():
        if isinstance(crossing, Constant):
            copies[node] = crossing.value
        elif crossing is Crossing.BATCH_SIZE:
            copies[node] = head.call_method("size", (copies[rows[0]], 0))
    _copy([node for node in graph.nodes if node in _dependents([rows[0]])], head, copies)
    return head


def _copy(nodes: list[fx.Node], graph: fx.Graph, copies: dict[fx.Node, fx.node.Argument]) -> None:
    """Copies nodes into a graph in their order, and before each what it reads that is not copied yet."""

    def copied(node: fx.Node) -> fx.node.Argument:
        if node not in copies:
            copies[node] = graph.node_copy(node, copied)
        return copies[node]

    for node in nodes:
        copied(node)


# ----------------------------------------------------------------------------- what crosses the cut


class Crossing(Enum):
    """What a value at the cut is, when it is not a constant."""

    ROWS = "a tensor with a row an image"
    BATCH_SIZE = "the number of images, as `x.size(0)` gives it"


@dataclass(frozen=True)
class Constant:
    """A value at the cut that is the same for every batch, such as the width of a feature map."""

    value: fx.node.Argument


def _crossings(trunk: nn.Module, cut: list[fx.Node], images: Tensor) -> dict[fx.Node, Crossing | Constant]:
    """Tells what each value at the cut is, by comparing a batch of 2 with a batch of 3.

    Raises:
        Untraceable: a value can neither be gathered by row nor be kept as it is.
    """
    with torch.no_grad():
        of_2, of_3 = trunk(images[:2]), trunk(images)
    crossings: dict[fx.Node, Crossing | Constant] = {}
    for node, value_2, value_3 in zip(cut, of_2, of_3, strict=True):
        if isinstance(value_3, Tensor) and (value_2.shape[:1], value_3.shape[:1]) == ((2,), (3,)):
            crossings[node] = Crossing.ROWS
        elif not isinstance(value_3, Tensor) and (value_2, value_3) == (2, 3):
            crossings[node] = Crossing.BATCH_SIZE
        elif not isinstance(value_3, Tensor) and value_2 == value_3:
            crossings[node] = Constant(value_3)
        else:
            raise Untraceable(f"behind it the network reads {node.name!r}, which has no row an image")
    return crossings


# ----------------------------------------------------------------------------- proof and measure


def _prove(parts: Split, images: Tensor, activations: Tensor, logits: Tensor) -> None:
    """Checks on random images that the parts give what the network gave, and that images do not mix.

    Raises:
        SplitError: they do not; a network that mixes images cannot be served in batches either.
    """
    with torch.no_grad():
        features = parts.features(images)
        ours = parts.logits(features)
        reached = features.activations.clone()
        alone = parts.logits(features.rows(torch.tensor([1], device=images.device)))  # (1, K)
        single = parts.logits(parts.features(images[1:2]))  # (1, K)
    for name, computed, expected in (
        ("activations", reached, activations),
        ("logits", ours, logits),
        ("logits of one row of a batch", alone, logits[1:2]),
        ("logits of one image alone", single, logits[1:2]),
    ):
        if not torch.allclose(computed, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())):
            raise SplitError(f"cannot cut at {parts.layer!r}: the parts do not give the network's own {name}")


def _pair_bytes(parts: Split, images: Tensor) -> int:
    """Measures what autograd keeps of one pair's replay, and the pair's values at the cut."""
    parameters = {parameter.data_ptr() for parameter in parts.head.parameters()}
    kept: dict[int, int] = {}

    def measure(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in parameters:
            kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.no_grad():
        features = parts.features(images)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(measure, lambda tensor: tensor):
        parts.gradients(features, lambda logits: logits[:, 0])
    at_cut = features.activations.nbytes + sum(other.nbytes for other in features.others)
    return at_cut + sum(kept.values())


def _images(network: nn.Module, input_size: tuple[int, int], count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, *input_size, generator=generator)  # (count, 3, H, W)
    return images.to(next(network.parameters()).device)


def _float(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
