"""Augmentations and costs."""

from __future__ import annotations

from typing import Any

import torch

from gradcam.batch import SMOOTHING, UNCHANGED, AdmittedRequest, Augmentation
from gradcam.message import Request
from gradcam.options import Options
from tests.support.pipelines import (
    LAYER,
)


def test_augmentations_are_undone_on_the_maps() -> None:
    inputs = torch.arange(12.0).reshape(1, 1, 3, 4)
    for augmentation in SMOOTHING:
        undone = augmentation.undo(augmentation.apply(inputs)[:, 0])
        torch.testing.assert_close(undone, inputs[:, 0] * augmentation.factor)
    assert Augmentation(flip=True).apply(inputs)[0, 0, 0].tolist() == [3, 2, 1, 0]
    assert Augmentation().apply(inputs) is inputs


def test_smoothing_is_three_factors_with_and_without_a_flip() -> None:
    assert len(set(SMOOTHING)) == 6
    assert SMOOTHING[0] == Augmentation() == UNCHANGED[0]


def test_cost_is_passes_times_explained_classes_of_the_request_group() -> None:
    def admitted(images: int = 1, **options: Any) -> AdmittedRequest:
        request = Request(b"", Options(**options), images_in_request=images)
        return AdmittedRequest(request, None, "gradcam", (LAYER, "layer3"), UNCHANGED)

    assert admitted().passes == admitted().cost == admitted(explain=0).cost == 2
    assert admitted(3, explain=4).cost == admitted(3, targets=(1, 2, 3, 4)).cost == 24
