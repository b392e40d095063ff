"""Splits at the layers that requests name."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from gradcam.errors import (
    TooExpensive,
)
from gradcam.network import architecture
from gradcam.pipeline import Pipeline
from tests.support import oracles
from tests.support.pipelines import (
    CPU,
    IMAGES,
    LABELS,
    LAYER,
    SETTINGS,
    ask,
    rejection,
    result,
)


def test_layers_are_split_until_the_deadline(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Pipeline(model, LABELS, dataclasses.replace(SETTINGS, max_batch_seconds=2), CPU)
    clock = iter([0.0, 0.1, 0.2, 1.1])  # start, the row, its two layers
    monkeypatch.setattr("gradcam.pipeline.time.monotonic", lambda: next(clock))

    batch = fresh.preprocess([ask(IMAGES[2], layer=("layer3", "layer2"))])

    (item,) = batch.items
    assert isinstance(item, TooExpensive)
    assert list(fresh.splits) == [LAYER, "layer3"]
    monkeypatch.undo()
    fresh.settings = SETTINGS  # without the short time limit
    assert result(fresh, ask(IMAGES[2], layer=("layer3", "layer2"))).layers == ("layer3", "layer2")


def test_the_weights_are_laid_out_for_torch_when_a_request_needs_that() -> None:
    network = oracles.seeded(architecture.build("resnet18", SETTINGS.num_classes), seed=3)
    fresh = Pipeline(network, LABELS, dataclasses.replace(SETTINGS, engine="openvino"), CPU)
    kernel = network.get_submodule("layer2.0.conv1").weight
    assert isinstance(kernel, torch.Tensor)
    before = kernel.data_ptr()

    fresh.answer([ask(IMAGES[0], explain=2), ask(IMAGES[1], smooth=True), ask(IMAGES[2], method="layercam")])
    assert kernel.data_ptr() == before
    assert result(fresh, ask(IMAGES[2], layer=("layer3",))).layers == ("layer3",)

    assert kernel.data_ptr() != before
    assert kernel.is_contiguous(memory_format=torch.channels_last)


def test_an_unsplittable_layer_is_tried_once(model: nn.Module) -> None:
    fresh = Pipeline(model, LABELS, SETTINGS, CPU)
    passes: list[int] = []
    hook = model.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    first = rejection(fresh, ask(IMAGES[2], layer=("fc",)))
    tried = len(passes)
    second = rejection(fresh, ask(IMAGES[2], layer=("fc",)))
    hook.remove()
    assert (first.code, str(first)) == (second.code, str(second))
    assert tried == len(passes) > 0
