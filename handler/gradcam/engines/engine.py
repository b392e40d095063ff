"""Engines that run the trunk: the network up to the target layer, most of the work, never seen by autograd.

Every engine computes the same values at the split point, up to the rounding of its arithmetic; the head stays in torch.
Before an engine serves, its results are verified against the trunk as it was split.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx
from torch.nn import functional

from gradcam.engines import onednn
from gradcam.explain import cam
from gradcam.settings import Engine, Precision
from gradcam.split.parts import CutActivations, Split, Trunk

logger = logging.getLogger(__name__)

# Minimum cosine between an engine's activations, and maps, and those of the unmodified trunk.
MIN_COSINE: dict[Precision, float] = {"float32": 0.99999, "float16": 0.999, "bfloat16": 0.98}


@dataclass(frozen=True)
class Accelerated:
    """A trunk on an engine."""

    trunk: Trunk
    precision: str
    """The precision that it runs in; an engine may choose another one than it is told."""


class EngineError(RuntimeError):
    """An engine that cannot run here, or whose results differ from the network's; the message says why."""


def accelerate(parts: Split, engine: Engine, precision: Precision, images: Tensor) -> Split:
    """Return the split with its trunk on the engine; for `auto`, on the fastest one available.

    Args:
        parts: the network as it was split.
        engine: runs the trunk.
        precision: precision of the trunk.
        images: random images to verify the engine on, (N, 3, H, W).

    Raises:
        EngineError: the engine is named explicitly and cannot run the trunk.
    """
    if engine not in ("auto", "eager"):
        return _accelerate_and_verify(parts, engine, precision, images)
    candidates: tuple[Engine, ...] = ("openvino", "eager") if engine == "auto" else ("eager",)
    for candidate in candidates:
        try:
            return _accelerate_and_verify(parts, candidate, precision, images)
        except EngineError as error:
            logger.info("engine %r is not used: %s", candidate, error)
    # The trunk as it was split always works.
    return replace(parts, trunk=in_precision(parts.trunk, precision), precision=precision)


def _accelerate_and_verify(parts: Split, engine: Engine, precision: Precision, images: Tensor) -> Split:
    """Return the split on another engine, whose activations and maps are nearly equal to the trunk's.

    Raises:
        EngineError: they differ, or the engine cannot run the trunk.
    """
    try:
        fast = ENGINES[engine](parts.trunk, precision, images)
        accelerated = replace(parts, trunk=fast.trunk, engine=engine, precision=fast.precision)
        with torch.inference_mode():
            expected, ours = parts.features(images), accelerated.features(images).float()
    except EngineError:
        raise
    except Exception as error:  # converters and compilers may raise anything
        raise EngineError(f"Engine {engine!r} cannot run this network: {error}") from error
    for name, one, other in (
        ("activations", ours.activations, expected.activations),
        ("maps", _maps(accelerated, ours), _maps(parts, expected)),
    ):
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


def _eager(trunk: Trunk, precision: Precision, images: Tensor) -> Accelerated:
    """Fuse convolutions with the operations after them in oneDNN, in float32 on a CPU; otherwise change nothing."""
    if isinstance(trunk, fx.GraphModule) and images.device.type == "cpu" and precision == "float32":
        return Accelerated(onednn.pack(trunk, images), precision)
    return Accelerated(in_precision(trunk, precision), precision)


def _compiled(trunk: Trunk, precision: Precision, images: Tensor) -> Accelerated:
    """Compile with torch.compile for batches of any size.

    Compilation takes a minute or more, and needs a C++ compiler on a CPU. On a GPU, the second batch of each size
    records a CUDA graph; later batches of that size avoid the cost of launching kernels one by one.
    """
    if images.device.type == "cpu":
        return Accelerated(torch.compile(in_precision(trunk, precision), dynamic=True), precision)
    recorded = torch.compile(in_precision(trunk, precision), dynamic=True, mode="reduce-overhead")

    def run(images: Tensor) -> tuple[Tensor, ...]:
        # Cloned, because a CUDA graph writes to the same memory each time.
        return tuple(output.clone() for output in recorded(images))

    return Accelerated(run, precision)


def _openvino(trunk: Trunk, precision: Precision, images: Tensor) -> Accelerated:
    """Convert to OpenVINO, with as many threads as torch uses."""
    if importlib.util.find_spec("openvino") is None:
        raise EngineError("Engine 'openvino' needs the package openvino: pip install openvino")
    if images.device.type != "cpu":
        raise EngineError(f"Engine 'openvino' runs on CPUs only, got device {images.device.type!r}")
    import openvino  # noqa: PLC0415  an optional package, which takes seconds to load

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's tracer, which OpenVINO uses, warns about many networks
        model = openvino.convert_model(trunk, example_input=images, input=[-1, *images.shape[1:]])
    hints = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
    config = {
        "INFERENCE_PRECISION_HINT": hints[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        # With pinning, every worker would pin its threads to the same first cores.
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(model, "CPU", config)

    def run(images: Tensor) -> tuple[Tensor, ...]:
        results = compiled(images.numpy(), share_inputs=True)
        return tuple(torch.from_numpy(results[index]) for index in range(len(results)))

    # OpenVINO replaces a precision that the processor lacks.
    effective = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return Accelerated(run, {hint: name for name, hint in hints.items()}.get(effective, effective))


def in_precision(trunk: Trunk, precision: Precision) -> Trunk:
    """Return the trunk in another precision, which torch chooses for each operation (autocast)."""
    if precision == "float32":
        return trunk

    def run(images: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(images.device.type, getattr(torch, precision)):
            return trunk(images)

    return run


ENGINES: dict[str, Callable[[Trunk, Precision, Tensor], Accelerated]] = {
    "eager": _eager,
    "compile": _compiled,
    "openvino": _openvino,
}

# Engines that record a CUDA graph for each batch size on a GPU, when the size comes the second time.
STATIC_SHAPES = frozenset({"compile"})


def warm_up_sizes(engine: str, device: torch.device, max_size: int) -> list[int]:
    """Return sizes of batches to answer at start, after which no later batch of the engine is slow."""
    if engine in STATIC_SHAPES and device.type != "cpu":
        return [size for size in range(1, max_size + 1) for _ in range(2)]
    return [1, max_size]
