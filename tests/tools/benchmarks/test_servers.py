"""The benchmark of servers understands every system's answers."""

from __future__ import annotations

import pytest

from tools.benchmarks.servers import best


@pytest.mark.parametrize(
    "answer",
    [
        {"cat": 0.2, "dog": 0.7, "cow": 0.1},
        {"labels": {"cat": 0.2, "dog": 0.7}, "heatmap": [[1.0]]},
        {"predictions": [{"label": "dog", "probability": 0.7}, {"label": "cat", "probability": 0.2}]},
    ],
)
def test_best_class_of_any_systems_answer(answer: object) -> None:
    assert best(answer) == "dog"
