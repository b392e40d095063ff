"""Oracle of archives in int8: their graph in float32 arithmetic, and autograd from its activations on."""

from __future__ import annotations

import copy
from pathlib import Path

import openvino
import torch
from torch import Tensor, nn

from tests.support import oracles
from tests.support.oracles import Observed


def activations(unpacked: Path, images: Tensor) -> Tensor:
    """Return the activations (B, C, h, w) that an unpacked archive's graph computes from its rounded values.

    Without low-precision transformations, OpenVINO rounds where the graph says so and computes in float32.
    """
    config = {"LP_TRANSFORMS_MODE": "NO", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(unpacked / "trunk.xml", "CPU", config)
    return torch.from_numpy(compiled(images.numpy())[0].copy())


def explained(network: nn.Module, layer: str, activations: Tensor, classes: list[int]) -> Observed:
    """Return what autograd computes if the layer's output is replaced by activations (B, C, h, w)."""
    network = copy.deepcopy(network)
    row = iter(activations)
    network.get_submodule(layer).register_forward_hook(lambda module, inputs, output: next(row)[None])
    # The layer sees other images, which do not matter.
    return oracles.autograd_at(network, layer, torch.zeros(len(activations), 3, 64, 64), classes)
