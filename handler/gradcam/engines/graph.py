"""OpenVINO's graphs of the trunk: conversion from torch, and compilation for this processor."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import openvino
import torch
from torch import Tensor

from gradcam.settings import Precision
from gradcam.split.parts import Trunk

# Quantized operations are part of the graph; the hint is for the others.
HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}


def convert(trunk: Trunk, images: Tensor) -> openvino.Model:
    """Convert the trunk; OpenVINO may raise any exception.

    Args:
        trunk: to convert.
        images: examples, (N, 3, H, W); the graph accepts batches of any size.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's tracer warns about many networks
        # OpenVINO would have torch run the trunk twice more, to check the trace; the engine is verified anyway.
        traced = torch.jit.trace(trunk, images, strict=False, check_trace=False)  # type: ignore[no-untyped-call]
        return openvino.convert_model(traced, input=[-1, *images.shape[1:]])


def compiled(model: openvino.Model, precision: Precision) -> tuple[Trunk, str]:
    """Compile a graph for as many threads as torch uses.

    Returns:
        The trunk, and the precision that it runs in: OpenVINO replaces one that the processor lacks.
    """
    config = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        # With pinning, every worker would pin its threads to the same first cores.
        "ENABLE_CPU_PINNING": False,
    }
    executable = openvino.Core().compile_model(model, "CPU", config)

    def run(images: Tensor) -> tuple[Tensor, ...]:
        results = executable(images.numpy(), share_inputs=True)
        return tuple(torch.from_numpy(results[index]) for index in range(len(results)))

    if precision == "int8":
        return run, precision
    effective = executable.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return run, {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}.get(effective, effective)


def save(model: openvino.Model, file: Path) -> str:
    """Write a graph as `file`, an .xml, and its weights beside it; return the SHA-256 of both."""
    openvino.save_model(model, file, compress_to_fp16=False)
    return sha256(file)


def read(file: Path) -> openvino.Model:
    """Read a graph that `save` wrote; its weights are mapped into memory."""
    return openvino.Core().read_model(file)


def sha256(file: Path) -> str:
    """Return the SHA-256 of a graph's two files, one after the other, in hexadecimal."""
    return hashlib.sha256(file.read_bytes() + file.with_suffix(".bin").read_bytes()).hexdigest()
