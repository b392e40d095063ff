"""Splits at the layers that requests name."""

from __future__ import annotations

import dataclasses

import pytest
from torch import nn

from gradcam.errors import (
    TooExpensive,
)
from gradcam.pipeline import Pipeline
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
