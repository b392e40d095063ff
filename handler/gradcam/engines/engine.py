"""Engines that run the trunk: the network up to the target layer, most of the work, never seen by autograd.

Every engine computes the same values at the split point, up to the rounding of its arithmetic; the head stays in torch.
Before an engine serves, its results are verified against the trunk as it was split.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from gradcam.engines import graph
from gradcam.engines.graph import GraphTrunk
from gradcam.explain import cam
from gradcam.images.model_input import Normalization
from gradcam.settings import Engine, Precision
from gradcam.split.parts import CutActivations, Split, Trunk

logger = logging.getLogger(__name__)

# Minimum cosine between an engine's activations, and maps, and those of the unmodified trunk. In int8, whose maps were
# compared on real images when the archive was built, only activations are, to detect wrong arithmetic.
MIN_COSINE: dict[Precision, float] = {"float32": 0.99999, "float16": 0.999, "bfloat16": 0.98, "int8": 0.8}


@dataclass(frozen=True)
class Accelerated:
    """A trunk on an engine."""

    trunk: Trunk
    precision: str
    """The precision that it runs in; an engine may choose another one than it is told."""
    pixel_trunk: Trunk | None = None
    """The trunk with the normalization, if the engine was given one and can run it."""


@dataclass(frozen=True)
class Examples:
    """Images to convert and verify an engine on."""

    images: Tensor
    """(N, 3, H, W): pixels in uint8 if there is a normalization, else normalized."""
    normalization: Normalization | None = None

    @property
    def normalized(self) -> Tensor:
        """The images as the network takes them."""
        return self.images if self.normalization is None else self.normalization(self.images)

    def features(self, parts: Split) -> CutActivations:
        """Run the trunk on the images, by way of the pixels if there is a normalization."""
        if self.normalization is None:
            return parts.features(self.images)
        return parts.features_of_pixels(self.images, self.normalization)


class EngineError(RuntimeError):
    """An engine that cannot run here, or whose results differ from the network's; the message says why."""


def accelerate(
    parts: Split, engine: Engine, precision: Precision, images: Tensor, normalization: Normalization | None = None
) -> Split:
    """Return the split with its trunk on the engine; for `auto`, on the fastest one available.

    Args:
        parts: the network as it was split.
        engine: runs the trunk.
        precision: precision of the trunk.
        images: random images to verify the engine on, (N, 3, H, W): normalized, or pixels with a normalization.
        normalization: for an engine that can normalize pixels itself.

    Raises:
        EngineError: the engine is named explicitly and cannot run the trunk.
    """
    examples = Examples(images, normalization)
    if engine not in ("auto", "eager"):
        return _on_engine(parts, engine, precision, examples)
    if engine == "auto":
        try:
            return _on_engine(parts, "openvino", precision, examples)
        except EngineError as error:
            logger.info("OpenVINO is not used: %s", error)
    return in_torch(parts, precision)


def in_torch(parts: Split, precision: Precision) -> Split:
    """Return the split with its trunk in a precision that torch runs: float32 if the precision is int8."""
    precision = "float32" if precision == "int8" else precision
    return replace(parts, trunk=_in_precision(parts.trunk, precision), precision=precision)


def load_quantized(parts: Split, file: Path, sha256: str, examples: Examples) -> Split:
    """Return the split with its trunk replaced by a quantized graph.

    Args:
        parts: the network as it was split, in float32.
        file: the graph.
        sha256: of the graph, as `graph.save` returned it.
        examples: images to verify the graph on.

    Raises:
        EngineError: the graph cannot be run here, or is not this trunk's.
    """
    if graph.sha256(file) != sha256:
        raise EngineError(f"{file.name} or its .bin is damaged: its SHA-256 differs from the one in model-config.yaml")
    return _verified(parts, "openvino", "int8", examples, lambda: _quantized(file, examples))


def _on_engine(parts: Split, engine: Engine, precision: Precision, examples: Examples) -> Split:
    """Run an engine of `ENGINES` and verify it, as `_verified` does."""
    return _verified(parts, engine, precision, examples, lambda: ENGINES[engine](parts.trunk, precision, examples))


def _verified(
    parts: Split, engine: Engine, precision: Precision, examples: Examples, run_on_engine: Callable[[], Accelerated]
) -> Split:
    """Return the split on another engine, whose activations and maps are nearly equal to the trunk's.

    Raises:
        EngineError: they differ, or the engine cannot run the trunk.
    """
    try:
        fast = run_on_engine()
        accelerated = replace(parts, engine=engine, **vars(fast))
        with torch.inference_mode():
            expected, ours = examples.features(parts), examples.features(accelerated).float()
    except EngineError:
        raise
    except Exception as error:  # converters and compilers may raise anything
        raise EngineError(f"Engine {engine!r} cannot run this network: {error}") from error
    compared = {"activations": (ours.activations, expected.activations)}
    if precision != "int8":
        compared["maps"] = (_maps(accelerated, ours), _maps(parts, expected))
    for name, (one, other) in compared.items():
        if not (cosine := _min_cosine(one, other)) >= MIN_COSINE[precision]:
            raise EngineError(
                f"Engine {engine!r} computes other {name} than the network: cosine must be at least "
                f"{MIN_COSINE[precision]}, got {cosine:.5f}"
            )
    return accelerated


def _min_cosine(ours: Tensor, expected: Tensor) -> float:
    """Return the minimum cosine between rows of two tensors (N, …); 1 for equal rows, even if all zero."""
    cosines = functional.cosine_similarity(ours.flatten(1), expected.flatten(1))  # (N, …) → (N,)
    is_equal = (ours == expected).flatten(1).all(dim=1)  # (N, …) → (N,)
    return float(cosines.masked_fill(is_equal, 1).min())


def _maps(parts: Split, features: CutActivations) -> Tensor:
    """Return a Grad-CAM map (N, h, w) for each image's predicted class, without ReLU, which might leave all zeros."""
    rows = features.rows(torch.arange(len(features.activations), device=features.activations.device))
    with torch.enable_grad():
        gradients = parts.gradients(rows, lambda logits: logits.amax(dim=1))
    return cam.GRADIENT_METHODS["gradcam"].maps(parts.activations(rows), gradients)


# ----------------------------------------------------------------------------- engines


def _compiled(trunk: Trunk, precision: Precision, examples: Examples) -> Accelerated:
    """Compile with torch.compile for GPUs and batches of any size.

    Compilation takes a minute or more. The second batch of each size records a CUDA graph; later batches of that size
    avoid the cost of launching kernels one by one.
    """
    if examples.images.device.type == "cpu":
        raise EngineError("Engine 'compile' runs on GPUs only, got device 'cpu'")
    recorded = torch.compile(_in_precision(trunk, precision), dynamic=True, mode="reduce-overhead")

    def run(images: Tensor) -> tuple[Tensor, ...]:
        # Cloned, because a CUDA graph writes to the same memory each time.
        return tuple(output.clone() for output in recorded(images))

    return Accelerated(run, precision)


def _openvino(trunk: Trunk, precision: Precision, examples: Examples) -> Accelerated:
    """Convert to OpenVINO."""
    _check_cpu(examples)
    return _compiled_graph(GraphTrunk(graph.convert(trunk, examples.normalized), precision), examples)


def _quantized(file: Path, examples: Examples) -> Accelerated:
    """Read a quantized graph."""
    _check_cpu(examples)
    return _compiled_graph(GraphTrunk(graph.read(file), "int8"), examples)


def _check_cpu(examples: Examples) -> None:
    if (device := examples.images.device.type) != "cpu":
        raise EngineError(f"Engine 'openvino' runs on CPUs only, got device {device!r}")


def _compiled_graph(trunk: GraphTrunk, examples: Examples) -> Accelerated:
    """Compile a graph for the kind of images that most requests will bring; this also finds out its precision."""
    if examples.normalization is None:
        trunk.compile()
        return Accelerated(trunk, trunk.precision)
    pixel_trunk = trunk.on_pixels(examples.normalization)
    return Accelerated(trunk, trunk.precision, pixel_trunk)


def _in_precision(trunk: Trunk, precision: Precision) -> Trunk:
    """Return the trunk in another precision, which torch chooses for each operation (autocast)."""
    if precision == "float32":
        return trunk

    def run(images: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(images.device.type, getattr(torch, precision)):
            return trunk(images)

    return run


ENGINES: dict[str, Callable[[Trunk, Precision, Examples], Accelerated]] = {
    "compile": _compiled,
    "openvino": _openvino,
}

# Engines that record a CUDA graph for each batch size, when the size comes the second time.
STATIC_SHAPES = frozenset({"compile"})


def warm_up_sizes(engine: str, device: torch.device, max_size: int) -> list[int]:
    """Return sizes of batches to answer at start, after which no later batch of the engine is slow."""
    if engine in STATIC_SHAPES:
        return [size for size in range(1, max_size + 1) for _ in range(2)]
    return [1, max_size]
