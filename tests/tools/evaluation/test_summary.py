"""Means, standard errors, and the best mean."""

from __future__ import annotations

import math

import pytest

from tools.evaluation.measurement import MeasuredMap
from tools.evaluation.measures import Scores
from tools.evaluation.summary import Estimate, best, summarize


def test_estimate_by_hand() -> None:
    assert Estimate.of([1, 3]) == Estimate(2, 1)
    assert Estimate.of([2, 4, 4, 4, 5, 5, 7, 9]).error == pytest.approx(math.sqrt(32 / 7 / 8))
    assert math.isnan(Estimate.of([1]).error)


def test_summary_groups_by_layer_and_method_and_best_is_by_measure() -> None:
    def measured(name: str, method: str, value: float) -> MeasuredMap:
        return MeasuredMap(name, 0, "cat", 0.9, method, "conv", Scores(value, value, 0, 0, value))

    maps = [
        measured("a", "gradcam", 0.1),
        measured("a", "random", 0.3),
        measured("b", "gradcam", 0.3),
        measured("b", "random", 0.5),
    ]
    summaries = summarize(maps)
    assert [(entry.method, entry.layer, entry.images) for entry in summaries] == [
        ("gradcam", "conv", 2),
        ("random", "conv", 2),
    ]
    assert summaries[0].estimates["deletion"].error == pytest.approx(0.1)
    assert best(summaries, "deletion") == pytest.approx(0.2)
    assert best(summaries, "insertion") == pytest.approx(0.4)
