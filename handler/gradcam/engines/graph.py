"""OpenVINO's graphs of the trunk: conversion from torch, and compilation for this processor."""

from __future__ import annotations

import hashlib
import warnings
from functools import cached_property
from pathlib import Path

import openvino
import torch
from openvino.preprocess import PrePostProcessor
from torch import Tensor

from gradcam.images.model_input import Normalization
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


class GraphTrunk:
    """A trunk in OpenVINO, compiled for as many threads as torch uses.

    Most requests need it for pixels; augmentations and Score-CAM need it for normalized images, and it is compiled for
    these when they first do.
    """

    precision: str
    """The precision that it runs in, once it is compiled: OpenVINO replaces one that the processor lacks."""

    def __init__(self, model: openvino.Model, precision: Precision) -> None:
        self.model = model
        self.precision = precision
        self.hint = HINTS[precision]

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run the trunk on normalized images (B, 3, H, W)."""
        return _run(self._for_images, images.contiguous())

    def compile(self) -> None:
        """Compile the graph for normalized images, if that has not happened yet."""
        _ = self._for_images

    @cached_property
    def _for_images(self) -> openvino.CompiledModel:
        return self._compiled(self.model)

    def on_pixels(self, normalization: Normalization) -> Trunk:
        """Compile the graph with the normalization before it; return the trunk for pixels."""
        steps = PrePostProcessor(self.model.clone())
        steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
        steps.input().model().set_layout(openvino.Layout("NCHW"))
        preprocess = steps.input().preprocess().convert_element_type(openvino.Type.f32)
        preprocess.mean([255 * mean for mean in normalization.mean])
        preprocess.scale([255 * std for std in normalization.std])
        executable = self._compiled(steps.build())

        def run(pixels: Tensor) -> tuple[Tensor, ...]:
            return _run(executable, pixels.permute(0, 2, 3, 1).contiguous())  # (B, 3, H, W) → (B, H, W, 3)

        return run

    def _compiled(self, model: openvino.Model) -> openvino.CompiledModel:
        config = {
            "INFERENCE_PRECISION_HINT": self.hint,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            # With pinning, every worker would pin its threads to the same first cores.
            "ENABLE_CPU_PINNING": False,
        }
        executable = openvino.Core().compile_model(model, "CPU", config)
        if self.precision != "int8":
            effective = executable.get_property("INFERENCE_PRECISION_HINT").get_type_name()
            self.precision = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}.get(effective, effective)
        return executable


def _run(executable: openvino.CompiledModel, images: Tensor) -> tuple[Tensor, ...]:
    results = executable(images.numpy(), share_inputs=True)  # no copy of contiguous images
    return tuple(torch.from_numpy(results[index]) for index in range(len(results)))


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
