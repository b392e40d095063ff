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
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from gradcam.network.architecture import check_layer
from gradcam.network.layout import Layout

logger = logging.getLogger(__name__)


Trunk = Callable[[Tensor], tuple[Tensor, ...]]
"""Takes images (B, 3, H, W) to the values at the cut, the activations first."""


class SplitError(ValueError):
    """A network that cannot be cut at this layer; the message names the layer and the reason."""


@dataclass(frozen=True)
class CutActivations:
    """The values at the cut, of a batch of B images."""

    activations: Tensor
    """The target layer's output, (B, …), in the layer's own layout."""
    others: tuple[Tensor, ...]
    """What else the head needs, a tensor (B, …) each."""

    def float(self) -> CutActivations:
        """Returns the values in float32, whatever the trunk ran in."""
        return CutActivations(self.activations.float(), tuple(_float(other) for other in self.others))

    def rows(self, indices: Tensor) -> CutActivations:
        """Returns a copy of the rows `indices` (N,), which autograd may enter where it may not enter these."""
        return CutActivations(
            self.activations.index_select(0, indices),  # (B, …) → (N, …)
            tuple(other.index_select(0, indices) for other in self.others),
        )


@dataclass(frozen=True)
class Split:
    """A network in two parts that together compute exactly what it computes; `split` makes it."""

    layer: str
    trunk: Trunk
    head: nn.Module
    method: Literal["fx", "hook"]
    layout: Layout
    """Of the layer's output."""
    replay_bytes: int
    """Memory that the replay of one (image, class) pair with gradients takes, as measured."""
    engine: str = "eager"
    """What runs the trunk."""

    def features(self, images: Tensor) -> CutActivations:
        """Runs the trunk on images (B, 3, H, W)."""
        activations, *others = self.trunk(images)
        return CutActivations(activations, tuple(others))

    def logits(self, features: CutActivations) -> Tensor:
        """Runs the head; returns (B, K)."""
        # Cloned, because the head may work in place: on a leaf it must not, and the activations are still needed.
        logits: Tensor = self.head(features.activations.clone(), *(other.clone() for other in features.others))
        return logits

    def activations(self, features: CutActivations) -> Tensor:
        """Returns the activations of N rows as (N, C, h, w)."""
        return self.layout.to_grid(features.activations)

    def gradients(self, features: CutActivations, score: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns the gradient of each row's score with respect to that row's activations.

        Rows do not mix in a network in eval mode, so the gradient of the sum of the N scores holds them all
        (Selvaraju et al. 2017, the derivative in eq. 1). Gradients must be enabled.

        Args:
            features: N rows that are not inference tensors, as `CutActivations.rows` returns them.
            score: takes the logits (N, K) to the scores (N,).

        Returns:
            (N, C, h, w).
        """
        leaf = features.activations.detach().requires_grad_()
        logits = self.logits(CutActivations(leaf, features.others))  # (N, K)
        (gradients,) = torch.autograd.grad(score(logits).sum(), leaf)
        return self.layout.to_grid(gradients)


def split(network: nn.Module, layer: str, input_size: tuple[int, int]) -> Split:
    """Cuts a network in eval mode at `layer` and proves the parts equal to the whole on random images.

    Args:
        network: stays as it is.
        layer: name of the module whose output is the cut.
        input_size: height and width of the images, in pixels.

    Raises:
        UnknownName: the network has no such layer.
        SplitError: the network cannot be cut or explained there.
    """
    check_layer(network, layer)
    images = random_images(network, input_size, 3)
    # GPUs round to TF32 in convolutions if torch lets them, by more than the parts may be off.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        activations, logits = _observe(network, layer, images)
        layout = _layout(network.get_submodule(layer), activations, layer, input_size)
        try:
            trunk, head = _cut_with_fx(network, layer, images)
            method: Literal["fx", "hook"] = "fx"
        except Untraceable as reason:
            logger.info("%s is cut with hooks: %s", layer, reason)
            trunk, head = _UpTo(network, layer), _From(network, layer)
            method = "hook"
        parts = Split(layer, trunk, head, method, layout, replay_bytes=0)
        _prove(parts, images, activations, logits)
        return replace(parts, replay_bytes=_pair_bytes(parts, images[:1]))


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
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(images):
        raise SplitError(f"cannot cut at {layer!r}: the network must give one tensor of logits (batch, classes)")
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
        hook = self.network.get_submodule(self.layer).register_forward_hook(lambda module, inputs, output: activations)
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


# ----------------------------------------------------------------------------- proof and measure


def _prove(parts: Split, images: Tensor, activations: Tensor, logits: Tensor) -> None:
    """Checks on random images that the parts give what the network gave, that images do not mix, and gradients.

    Raises:
        SplitError: they do not; a network that mixes images cannot be served in batches either.
    """
    with torch.no_grad():
        features = parts.features(images)
        pairs = {"activations": (features.activations, activations), "logits": (parts.logits(features), logits)}
        for row, expected in enumerate(logits):
            index = torch.tensor([row], device=images.device)
            pairs["logits of one row of a batch"] = (parts.logits(features.rows(index))[0], expected)
            pairs["logits of an image alone"] = (parts.logits(parts.features(images[index]))[0], expected)
            for name, (ours, theirs) in pairs.items():
                _check_equal(ours, theirs, parts.layer, name)
    try:
        with torch.enable_grad():
            gradients = parts.gradients(features, lambda logits: logits.amax(dim=1))
    except RuntimeError as error:
        raise SplitError(f"cannot explain {parts.layer!r}: no gradient reaches it: {error}") from error
    if not gradients.isfinite().all():
        raise SplitError(f"cannot explain {parts.layer!r}: its gradients are not finite")


def _check_equal(ours: Tensor, theirs: Tensor, layer: str, name: str) -> None:
    if not theirs.isfinite().all():
        raise SplitError(f"cannot cut at {layer!r}: the network's own {name} are not finite")
    if not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max())):
        raise SplitError(f"cannot cut at {layer!r}: the parts do not give the network's own {name}")


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


def random_images(network: nn.Module, input_size: tuple[int, int], count: int) -> Tensor:
    """Returns seeded images (count, 3, H, W) on the network's device."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, *input_size, generator=generator)  # (count, 3, H, W)
    return images.to(next(network.parameters()).device)


def _float(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
