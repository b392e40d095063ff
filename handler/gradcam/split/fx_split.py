"""Trunk and head of a network that torch.fx can trace."""

from __future__ import annotations

import inspect
import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from gradcam.split.parts import SplitError


class Untraceable(SplitError):
    """A network that torch.fx cannot cut at this layer, though it can be cut."""


def split_with_fx(network: nn.Module, layer: str, images: Tensor) -> tuple[nn.Module, nn.Module]:
    """Return trunk and head.

    Raises:
        Untraceable: torch.fx cannot split the network at this layer.
    """
    graph = _trace(network, layer)
    cut = _values_at_cut(graph, _only_call(graph, layer))
    everything = fx.GraphModule(network, _trunk_graph(graph, cut))
    crossings = _crossings(everything, cut, images)
    rows = [node for node in cut if crossings[node] == Rows()]
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
    # Arguments behind the images, such as a mask that is None, keep their defaults.
    _, *others = inspect.signature(network.forward).parameters.values()
    defaults = {other.name: other.default for other in others if other.default is not other.empty}
    try:
        return _Tracer(layer).trace(network, concrete_args=defaults)
    except Exception as error:  # whatever a proxy instead of a tensor leads the network's own code into
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


def _trunk_graph(graph: fx.Graph, outputs: list[fx.Node]) -> fx.Graph:
    """Returns the graph from the images to the `outputs`, the first of which is the target."""
    trunk = fx.Graph()
    copies: dict[fx.Node, fx.node.Argument] = {}
    head = _dependents([outputs[0]])
    _copy([node for node in graph.nodes if node in _from_images(graph) - head], trunk, copies)
    trunk.output(tuple(copies[node] for node in outputs))
    return trunk


def _head_graph(graph: fx.Graph, rows: list[fx.Node], crossings: dict[fx.Node, Crossing]) -> fx.Graph:
    """Returns the graph from the rows at the cut to the logits.

    The number of images is read from the activations: the head may be given more rows than the trunk.
    """
    head = fx.Graph()
    copies: dict[fx.Node, fx.node.Argument] = {node: head.placeholder(node.name) for node in rows}
    for node, crossing in crossings.items():
        if isinstance(crossing, Constant):
            copies[node] = crossing.value
        elif isinstance(crossing, BatchSize):
            count = head.call_method("size", (copies[rows[0]], 0))
            copies[node] = head.call_function(operator.mul, (count, crossing.factor))
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


@dataclass(frozen=True)
class Rows:
    """A value at the cut that is a tensor with a row an image."""


@dataclass(frozen=True)
class BatchSize:
    """A value at the cut that is a multiple of the number of images, as `x.size(0)` gives it."""

    factor: int


@dataclass(frozen=True)
class Constant:
    """A value at the cut that is the same for every batch, such as the width of a feature map."""

    value: fx.node.Argument


Crossing = Rows | BatchSize | Constant


def _crossings(trunk: nn.Module, cut: list[fx.Node], images: Tensor) -> dict[fx.Node, Crossing]:
    """Tells what each value at the cut is, by comparing a batch of 2 with a batch of 3.

    Raises:
        Untraceable: a value can neither be gathered by row nor be kept as it is.
    """
    with torch.no_grad():
        of_2, of_3 = trunk(images[:2]), trunk(images)
    return {node: _crossing(node, *values) for node, *values in zip(cut, of_2, of_3, strict=True)}


def _crossing(node: fx.Node, of_2: Any, of_3: Any) -> Crossing:
    if isinstance(of_3, Tensor):
        if (of_2.shape[:1], of_3.shape[:1]) == ((2,), (3,)):
            return Rows()
    elif of_2 == of_3:
        return Constant(of_3)
    elif isinstance(of_3, int) and of_2 * 3 == of_3 * 2:
        return BatchSize(of_3 // 3)
    raise Untraceable(f"behind it the network reads {node.name!r}, which has no row an image")
