"""A network and its explanation as one module, and the graph that a trace of it gives.

The gradients are traced, too, so the graph computes them with ordinary operators: a runtime needs no autograd.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from gradcam.errors import UnknownName
from gradcam.explain import cam
from gradcam.explain.cam import GRADIENT_METHODS
from gradcam.images.model_input import normalize
from gradcam.network.logits import probabilities
from gradcam.pipeline import Pipeline
from gradcam.split.parts import Split, SplitError
from gradcam.split.splitter import split
from tools.export.decompositions import ContiguousPooling, decompositions
from tools.export.methods import ExportError

Precision = Literal["float32", "float16"]
# Sizes of the traced example. 0 and 1 would become constants; equal sizes, as that of the 3 channels, would become one.
EXAMPLE_IMAGES, EXAMPLE_TARGETS = 5, 2
MAX_IMAGES, MAX_TARGETS = 1024, 1024


# Names of the outputs, in their order.
OUTPUTS = ("probability", "index", "heatmap", "strength", "evidence")
Answer = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""The outputs for B images with K classes and T targets each:

probability (B, K), FP32, as the model's activation gives them; index (B, T), INT64, the explained classes; heatmap
(B, T, h, w), FP32 in [0, 1]; strength (B, T), FP32, the maximum of each map before it was divided by it; evidence
(B, T), BOOL, whether the map has any positive value.
"""


@dataclass(frozen=True)
class Explained:
    """What a graph computes: a network split at the explained layer, and a method."""

    pipeline: Pipeline
    """With engine `eager` and precision `float32`, which the graph is compared with."""
    parts: Split
    """The network in torch's own operators, as `splitter.split` returns it."""
    method: str

    def answer(self, image: Tensor, target: Tensor) -> Answer:
        """Classify and explain images.

        Args:
            image: (B, H, W, 3), uint8, at the network's input size.
            target: (B, T), int64: indices of classes. The n-th -1 of a row means its n-th most probable class. Any
                other number that is not a class gets a map of zeros.
        """
        count, targets = target.shape
        settings = self.pipeline.settings
        # The trace assumes nothing about an image but its input size.
        images = image.reshape(count, *settings.input_size, 3).permute(0, 3, 1, 2).contiguous()  # → (B, 3, H, W)
        with torch.no_grad():
            features = self.parts.features(normalize(images, settings)).float()
            logits = self.parts.logits(features)  # (B, K)
        index = _classes(logits, target)
        is_class = (index >= 0) & (index < logits.shape[1])  # (B, T)
        classes = index.where(is_class, 0).flatten()  # (B, T) → (N,) with N = B·T
        rows = torch.arange(count, device=image.device)[:, None].expand(count, targets).flatten()  # (B, T) → (N,)
        of_pairs = features.rows(rows)
        method = GRADIENT_METHODS[self.method]
        with torch.enable_grad():
            gradients = self.parts.gradients(of_pairs, lambda logits: method.score(logits, classes))  # (N, C, h, w)
        raw = method.maps(self.parts.activations(of_pairs), gradients)  # (N, h, w)
        maps = cam.normalize(raw * is_class.flatten()[:, None, None])
        strength = maps.strengths.reshape(count, targets)  # (N,) → (B, T)
        return (
            probabilities(logits, settings.activation),
            index,
            maps.heatmaps.reshape(count, targets, *raw.shape[1:]),  # (N, h, w) → (B, T, h, w)
            strength,
            strength > 0,
        )


def _classes(logits: Tensor, target: Tensor) -> Tensor:
    """Return targets (B, T) with each -1 replaced by a class: the n-th of a row by its n-th most probable class."""
    is_open = target == -1
    rank = (is_open.long().cumsum(dim=1) - 1).clamp(0, logits.shape[1] - 1)  # (B, T)
    ranked = logits.topk(logits.shape[1], dim=1).indices  # (B, K), the most probable first
    return torch.where(is_open, ranked.gather(1, rank), target)


def explain(pipeline: Pipeline, layer: str, method: str) -> Explained:
    """Split an archive's network for a trace.

    The pipeline keeps weights channels last, which would add strided copies to the graph, so a copy is split.

    Raises:
        ExportError: the network has no such layer, or cannot be split there.
    """
    network = copy.deepcopy(pipeline.network).to(memory_format=torch.contiguous_format)
    try:
        return Explained(pipeline, split(network, layer, pipeline.settings.input_size), method)
    except (SplitError, UnknownName) as error:
        raise ExportError(str(error)) from error


def trace(explained: Explained, precision: Precision = "float32") -> ExportedProgram:
    """Trace an explanation for any number of images and targets.

    `make_fx` records the operators that a function executes, those of autograd among them. `torch.export` alone loses
    the tensors that autograd saves for the backward pass. It does take the recorded graph, whose sizes it checks.

    Raises:
        ExportError: the network does something that a graph cannot.
    """
    if precision == "float16":
        explained = replace(explained, parts=_in_half(explained.parts))
    height, width = explained.pipeline.settings.input_size
    image = torch.randint(0, 256, (EXAMPLE_IMAGES, height, width, 3), dtype=torch.uint8)
    target = torch.full((EXAMPLE_IMAGES, EXAMPLE_TARGETS), -1)
    images, targets = Dim("images", min=1, max=MAX_IMAGES), Dim("targets", min=1, max=MAX_TARGETS)
    shapes = {"image": {0: images}, "target": {0: images, 1: targets}}

    def answer(image: Tensor, target: Tensor) -> Answer:  # make_fx counts a method's `self` as an input
        # Attention by one operator would have a backward operator that no runtime has.
        with ContiguousPooling(), sdpa_kernel(SDPBackend.MATH):
            return explained.answer(image, target)

    try:
        recorded = make_fx(
            answer, decomposition_table=decompositions(), tracing_mode="symbolic", _allow_non_fake_inputs=True
        )(image, target)
        program = torch.export.export(_Recorded(recorded), (image, target), dynamic_shapes=shapes)
        # A second time, because only now assignments are operators.
        decomposed: ExportedProgram = program.run_decompositions(decompositions())
    except Exception as error:  # networks and torch's tracers may raise anything
        raise ExportError(f"Cannot trace the network: {error}") from error
    return decomposed


class _Recorded(nn.Module):
    """A recorded graph whose inputs and outputs have names."""

    def __init__(self, recorded: GraphModule) -> None:
        super().__init__()
        self.recorded = recorded

    def forward(self, image: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.recorded(image, target))


def _in_half(parts: Split) -> Split:
    """Return the split with its trunk in float16; head and maps stay in float32."""
    if not isinstance(parts.trunk, nn.Module):
        raise ExportError(f"Cannot convert the trunk to float16: got {type(parts.trunk).__name__}, not an nn.Module")
    trunk = copy.deepcopy(parts.trunk).half()
    return replace(parts, trunk=lambda images: trunk(images.half()))
