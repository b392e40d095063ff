"""Split method `fx`: torch.fx graphs of trunk and head."""

from __future__ import annotations

import inspect
import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from gradcam.split.parts import SplitError


class Untraceable(SplitError):
    """A network that torch.fx cannot split at this layer, although hooks can."""


def split_with_fx(network: nn.Module, layer: str, images: Tensor) -> tuple[nn.Module, nn.Module]:
    """Return trunk and head.

    Args:
        network: in eval mode; shares its parameters with the parts.
        layer: name of the module whose output is explained.
        images: three images (3, 3, H, W), to find out what each value at the split point is.

    Raises:
        Untraceable: torch.fx cannot split the network at this layer.
    """
    graph = _trace(network, layer)
    values = _values_at_split(graph, _only_call(graph, layer))
    full_trunk = fx.GraphModule(network, _trunk_graph(graph, values))
    crossings = _crossings(full_trunk, values, images)
    rows = [node for node in values if crossings[node] == Rows()]
    trunk = fx.GraphModule(network, _trunk_graph(graph, rows))
    return trunk, fx.GraphModule(network, _head_graph(graph, rows, crossings))


# ----------------------------------------------------------------------------- graphs


class _Tracer(fx.Tracer):
    """Traces into all modules except torch's own and the target layer."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.layer = layer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name == self.layer or super().is_leaf_module(m, module_qualified_name)


def _trace(network: nn.Module, layer: str) -> fx.Graph:
    # Arguments after the images, such as a mask that is None, keep their defaults.
    _, *others = inspect.signature(network.forward).parameters.values()
    defaults = {other.name: other.default for other in others if other.default is not other.empty}
    try:
        return _Tracer(layer).trace(network, concrete_args=defaults)
    except Exception as error:  # the network's own code may raise anything on a proxy instead of a tensor
        raise Untraceable(f"torch.fx cannot trace the network: {error}") from error


def _only_call(graph: fx.Graph, layer: str) -> fx.Node:
    calls: list[fx.Node] = [node for node in graph.nodes if node.op == "call_module" and node.target == layer]
    if len(calls) != 1:
        raise Untraceable(f"torch.fx sees {len(calls)} calls of the layer, not one")
    return calls[0]


def _dependents(nodes: list[fx.Node]) -> set[fx.Node]:
    """Return the nodes whose value depends on one of `nodes`, without `nodes` themselves."""
    dependents: set[fx.Node] = set()
    pending = [user for node in nodes for user in node.users]
    while pending:
        node = pending.pop()
        if node not in dependents:
            dependents.add(node)
            pending.extend(node.users)
    return dependents


def _from_images(graph: fx.Graph) -> set[fx.Node]:
    """Return the images and all nodes computed from them; the other nodes are equal for all batches."""
    images = [node for node in graph.nodes if node.op == "placeholder"]
    return {*images, *_dependents(images)}


def _values_at_split(graph: fx.Graph, target: fx.Node) -> list[fx.Node]:
    """Return the nodes that the trunk computes and the head reads, the target first.

    Nodes that do not depend on the images (parameters, and values computed from them) are computed in the head.
    """
    head = _dependents([target])
    trunk = _from_images(graph) - head - {target}
    return [target, *(node for node in graph.nodes if node in trunk and not head.isdisjoint(node.users))]


def _trunk_graph(graph: fx.Graph, outputs: list[fx.Node]) -> fx.Graph:
    """Return the graph from the images to `outputs`, the first of which is the target."""
    trunk = fx.Graph()
    copies: dict[fx.Node, fx.node.Argument] = {}
    head = _dependents([outputs[0]])
    _copy([node for node in graph.nodes if node in _from_images(graph) - head], trunk, copies)
    trunk.output(tuple(copies[node] for node in outputs))
    return trunk


def _head_graph(graph: fx.Graph, rows: list[fx.Node], crossings: dict[fx.Node, Crossing]) -> fx.Graph:
    """Return the graph from the rows at the split point to the logits.

    It reads the batch size from the activations, because the head may process more rows than the trunk did.
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
    """Copy nodes into a graph in their order, each after any of its arguments that have no copy yet."""

    def copied(node: fx.Node) -> fx.node.Argument:
        if node not in copies:
            copies[node] = graph.node_copy(node, copied)
        return copies[node]

    for node in nodes:
        copied(node)


# ----------------------------------------------------------------------------- values at the split point


@dataclass(frozen=True)
class Rows:
    """A value at the split point that is a tensor with one row per image."""


@dataclass(frozen=True)
class BatchSize:
    """A value at the split point that is a multiple of the number of images, such as `x.size(0)`."""

    factor: int


@dataclass(frozen=True)
class Constant:
    """A value at the split point that is equal for all batches, such as the width of a feature map."""

    value: fx.node.Argument


Crossing = Rows | BatchSize | Constant


def _crossings(trunk: nn.Module, nodes: list[fx.Node], images: Tensor) -> dict[fx.Node, Crossing]:
    """Classify each value at the split point by comparing a batch of 2 with a batch of 3.

    Raises:
        Untraceable: a value is neither one row per image, nor a constant, nor a multiple of the batch size.
    """
    with torch.no_grad():
        of_2, of_3 = trunk(images[:2]), trunk(images)
    return {node: _crossing(node, *values) for node, *values in zip(nodes, of_2, of_3, strict=True)}


def _crossing(node: fx.Node, of_2: Any, of_3: Any) -> Crossing:
    if isinstance(of_3, Tensor):
        if (of_2.shape[:1], of_3.shape[:1]) == ((2,), (3,)):
            return Rows()
    elif of_2 == of_3:
        return Constant(of_3)
    elif isinstance(of_3, int) and of_2 * 3 == of_3 * 2:
        return BatchSize(of_3 // 3)
    raise Untraceable(f"after the layer, the network reads {node.name!r}, which does not have one row per image")
