"""What runs the trunk: the network up to the target layer, nearly all of the work, which never sees autograd.

Every engine takes images to the same values at the cut, to the rounding of its arithmetic; the head stays in torch.
An engine proves itself against the trunk as it was cut before it serves.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, fx
from torch.nn import functional

from gradcam.engines import onednn
from gradcam.explain import cam
from gradcam.settings import Engine, Precision
from gradcam.split.parts import CutActivations, Split, Trunk

logger = logging.getLogger(__name__)

# The least cosine between an engine's activations, and maps, and those of the network as it is.
MIN_COSINE: dict[Precision, float] = {"float32": 0.99999, "float16": 0.999, "bfloat16": 0.98}


class EngineError(RuntimeError):
    """An engine that cannot run here, or does not give what the network gives; the message says why."""


def accelerate(parts: Split, engine: Engine, precision: Precision, images: Tensor) -> Split:
    """Returns the split with its trunk on the engine; for `auto`, on the best that can be had.

    Args:
        parts: the network as it was cut.
        engine: what is to run the trunk.
        precision: that it runs in.
        images: random ones to prove the engine on, (N, 3, H, W).

    Raises:
        EngineError: the engine that is named cannot run the trunk.
    """
    if engine not in ("auto", "eager"):
        return _proven(parts, engine, precision, images)
    candidates: tuple[Engine, ...] = ("openvino", "eager") if engine == "auto" else ("eager",)
    for candidate in candidates:
        try:
            return _proven(parts, candidate, precision, images)
        except EngineError as error:
            logger.info("not %s: %s", candidate, error)
    return replace(parts, trunk=in_precision(parts.trunk, precision))  # as it was cut, which always serves


def _proven(parts: Split, engine: Engine, precision: Precision, images: Tensor) -> Split:
    """Returns the split with another engine, which gives nearly the same activations, maps and classes.

    Raises:
        EngineError: it does not, or cannot run.
    """
    try:
        accelerated = replace(parts, trunk=ENGINES[engine](parts.trunk, precision, images), engine=engine)
        with torch.inference_mode():
            theirs, ours = parts.features(images), accelerated.features(images).float()
    except EngineError:
        raise
    except Exception as error:  # whatever a converter or compiler runs into
        raise EngineError(f"engine {engine!r} cannot run this network: {error}") from error
    for name, one, other in (
        ("activations", ours.activations, theirs.activations),
        ("maps", _maps(accelerated, ours), _maps(parts, theirs)),
    ):
        if not (alike := _alike(one, other)) >= MIN_COSINE[precision]:
            raise EngineError(f"engine {engine!r} gives other {name} than the network: cosine {alike:.5f}")
    return accelerated


def _alike(ours: Tensor, theirs: Tensor) -> float:
    """Returns the least cosine between the rows of two tensors (N, …); 1 for rows that are the same, even all 0."""
    cosines = functional.cosine_similarity(ours.flatten(1), theirs.flatten(1))  # (N, …) → (N,)
    same = (ours == theirs).flatten(1).all(dim=1)  # (N, …) → (N,)
    return float(cosines.masked_fill(same, 1).min())


def _maps(parts: Split, features: CutActivations) -> Tensor:
    """Returns a Grad-CAM map (N, h, w) of each image's predicted class, before its ReLU, which might leave nothing."""
    rows = features.rows(torch.arange(len(features.activations), device=features.activations.device))
    with torch.enable_grad():
        gradients = parts.gradients(rows, lambda logits: logits.amax(dim=1))
    return cam.GRADIENT_METHODS["gradcam"].maps(parts.activations(rows), gradients)


# ----------------------------------------------------------------------------- engines


def _eager(trunk: Trunk, precision: Precision, images: Tensor) -> Trunk:
    """Has oneDNN do convolutions with what follows them, in float32 on a CPU."""
    if isinstance(trunk, fx.GraphModule) and images.device.type == "cpu" and precision == "float32":
        return onednn.pack(trunk, images)
    return in_precision(trunk, precision)


def _compiled(trunk: Trunk, precision: Precision, images: Tensor) -> Trunk:
    """Compiles with torch.compile, for batches of any size; takes a minute or more, and a C++ compiler on a CPU.

    On a GPU each size of a batch is recorded as a CUDA graph when it comes the second time, so that from then on its
    kernels start at once.
    """
    if images.device.type == "cpu":
        return torch.compile(in_precision(trunk, precision), dynamic=True)
    recorded = torch.compile(in_precision(trunk, precision), dynamic=True, mode="reduce-overhead")

    def run(images: Tensor) -> tuple[Tensor, ...]:
        # A graph writes to the same memory each time.
        return tuple(output.clone() for output in recorded(images))

    return run


def _openvino(trunk: Trunk, precision: Precision, images: Tensor) -> Trunk:
    """Converts to OpenVINO, on as many threads as torch has."""
    if importlib.util.find_spec("openvino") is None:
        raise EngineError("engine 'openvino' needs the package openvino: pip install openvino")
    if images.device.type != "cpu":
        raise EngineError("engine 'openvino' runs on CPUs")
    import openvino  # noqa: PLC0415  an optional package, which takes seconds to load

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's tracing, which OpenVINO uses
        model = openvino.convert_model(trunk, example_input=images, input=[-1, *images.shape[1:]])
    hints = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
    config = {
        "INFERENCE_PRECISION_HINT": hints[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        # Each worker would pin its threads to the first cores, the same for all.
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(model, "CPU", config)

    def run(images: Tensor) -> tuple[Tensor, ...]:
        results = compiled(images.numpy(), share_inputs=True)
        return tuple(torch.from_numpy(results[index]) for index in range(len(results)))

    return run


def in_precision(trunk: Trunk, precision: Precision) -> Trunk:
    """Returns the trunk in another precision, which torch chooses operation by operation (autocast)."""
    if precision == "float32":
        return trunk

    def run(images: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(images.device.type, getattr(torch, precision)):
            return trunk(images)

    return run


ENGINES: dict[str, Callable[[Trunk, Precision, Tensor], Trunk]] = {
    "eager": _eager,
    "compile": _compiled,
    "openvino": _openvino,
}
