"""Scheduling: shared forward passes, and their order."""

from __future__ import annotations

import torch
from torch import nn

from gradcam.batch import SMOOTHING, UNCHANGED, Augmentation, CompletedPass, Item
from gradcam.explain.explainer import ForwardPass
from gradcam.forward_passes import explanation_order, schedule, select_rows, unchanged_logits
from gradcam.images.geometry import CropGeometry
from gradcam.images.model_input import PreparedInput
from gradcam.message import Request
from gradcam.options import Options
from gradcam.pipeline import Pipeline
from tests.support.pipelines import (
    CPU,
    IMAGES,
    LABELS,
    LAYER,
    SETTINGS,
    answer,
    ask,
    assert_same_answer,
)


def item(*, layers: tuple[str, ...] = (LAYER,), method: str = "gradcam", smooth: bool = False, images: int = 1) -> Item:
    request = Request(b"", Options(), images_in_request=images)
    geometry = CropGeometry.of(8, 8, SETTINGS)
    prepared = PreparedInput(geometry, torch.zeros(3, 8, 8, dtype=torch.uint8), None)
    return Item(request, None, method, layers, SMOOTHING if smooth else UNCHANGED, prepared)


def completed(rows: list[int], augmentation: Augmentation = Augmentation()) -> CompletedPass:  # noqa: B008  frozen
    logits = torch.tensor([[float(row)] for row in rows])
    forward = ForwardPass(None, None, None, logits)  # type: ignore[arg-type]
    return CompletedPass(rows, augmentation, forward)


def test_items_share_a_pass_by_layer_and_augmentation() -> None:
    items = [item(), item(layers=("layer3",)), item(layers=(LAYER, "layer3")), item(smooth=True)]
    passes = schedule(items, 32)
    assert [(scheduled.layer, scheduled.rows) for scheduled in passes[:2]] == [(LAYER, [0, 2, 3]), ("layer3", [1, 2])]
    assert {(scheduled.layer, *scheduled.rows) for scheduled in passes[2:]} == {(LAYER, 3)}
    assert [scheduled.augmentation for scheduled in passes[:2]] == [Augmentation(), Augmentation()]
    assert len({scheduled.augmentation for scheduled in passes}) == len(SMOOTHING) == len(passes) - 1


def test_cheap_passes_come_first() -> None:
    items = [item(layers=("layer1",), images=3), item(layers=("layer2",), images=2), item(layers=("layer3",))]
    assert [scheduled.layer for scheduled in schedule(items, 32)] == ["layer3", "layer2", "layer1"]


def test_large_groups_are_split_with_cheap_items_first() -> None:
    items = [item(images=5), item(), item(), item(images=4), item()]
    assert [scheduled.rows for scheduled in schedule(items, 2)] == [[1, 2], [3, 4], [0]]


def test_gradient_methods_are_explained_first() -> None:
    items = [item(method="scorecam"), item(images=2), item(method="layercam"), item(method="ablationcam")]
    first, second = completed([0, 1]), completed([2, 3])
    assert list(explanation_order([first, second], items)) == [
        (first, [1]),
        (second, [2]),
        (first, [0]),
        (second, [3]),
    ]


def test_logits_are_those_of_the_unchanged_input() -> None:
    passes = [completed([0, 2]), completed([1, 2], Augmentation(flip=True)), completed([1])]
    assert {row: values.tolist() for row, values in unchanged_logits(passes).items()} == {0: [0], 1: [1], 2: [2]}


def test_all_rows_are_selected_without_a_copy() -> None:
    values = torch.arange(6).reshape(3, 2)
    assert select_rows(values, [0, 1, 2]) is values
    assert select_rows(values, [2, 0]).tolist() == [[4, 5], [0, 1]]


def test_images_that_exceed_one_pass_take_several(pipeline: Pipeline, model: nn.Module) -> None:
    small = Pipeline(model, LABELS, SETTINGS, CPU, max_forward=2)
    requests = [ask(image, explain=2) for image in IMAGES]
    forward = small.inference(small.preprocess(requests))
    assert [completed.rows for completed in forward.passes] == [[0, 1], [2, 3], [4]]
    for ours, theirs in zip(answer(small, *requests), answer(pipeline, *requests), strict=True):
        assert_same_answer(ours, theirs)
