"""The figures of the servers' benchmark, by value."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.benchmarks import servers as benchmark
from tools.benchmarks import systems as contestants
from tools.benchmarks.servers import USUAL_CONCURRENCY, USUAL_SIZE, Case, Measurement
from tools.benchmarks.systems import Contestant

USUAL = Case(USUAL_SIZE, USUAL_CONCURRENCY)


def measurement(contestant: Contestant, number: int, requests: int, **changed: object) -> Measurement:
    values: dict[str, object] = {
        "round": number,
        "contestant": contestant.name,
        "size": USUAL_SIZE,
        "concurrency": USUAL_CONCURRENCY,
        "requests": requests,
        "seconds": 2.0,
        "latencies": [0.1, 0.3, 0.2],
        "cpu_seconds": 3.0,
        "worker_bytes": 10**9,
        "phases": {},
    }
    return Measurement(**{**values, **changed})  # type: ignore[arg-type]


@pytest.fixture
def measured() -> list[Measurement]:
    """The machine was ten times slower in the second round, for both; the third has one of them only."""
    ours, stock = contestants.OURS, contestants.STOCK_8
    return [
        measurement(stock, 0, 100),
        measurement(ours, 0, 200),
        measurement(ours, 1, 30),
        measurement(stock, 1, 10),
        measurement(ours, 2, 500),
    ]


def test_ratios_are_taken_within_a_round(measured: list[Measurement]) -> None:
    rates = benchmark.ratios(measured, contestants.OURS, contestants.STOCK_8, USUAL, lambda one: one.rate)
    assert rates == [2.0, 3.0]


def test_other_cases_are_left_out(measured: list[Measurement]) -> None:
    alone = Case(USUAL_SIZE, 1)
    assert benchmark.ratios(measured, contestants.OURS, contestants.STOCK_8, alone, lambda one: one.rate) == []


def test_a_ratio_stands_with_its_extremes() -> None:
    assert benchmark.spread([3.0, 1.0, 2.5]) == "2.50 (1.00 to 3.00)"


def test_quantiles_of_latencies_are_in_milliseconds() -> None:
    one = measurement(contestants.OURS, 0, 100, latencies=[number / 1000 for number in range(100, 0, -1)])
    assert benchmark.latency(0.5)(one) == pytest.approx(51)
    assert benchmark.latency(0.99)(one) == pytest.approx(100)


def test_a_row_has_medians() -> None:
    mine = [
        measurement(contestants.OURS, number, requests, phases={"decode": 0.002, "trunk": 0.04})
        for number, requests in enumerate((100, 120, 600))
    ]
    assert benchmark.row(mine) == ["60.0", "200", "300", "25", "1000", "2.0, 40.0"]


def test_the_goals_are_compared_with_what_they_name(measured: list[Measurement]) -> None:
    found = {name: values for name, _, values in benchmark.summary(measured)}
    position = benchmark.CONCURRENCIES.index(USUAL_CONCURRENCY)
    assert found["maps ÷ stock batch 8"][position] == [2.0, 3.0]
    assert found["maps ÷ pytorch-grad-cam"][position] == []


@pytest.mark.parametrize(
    "answer",
    [
        {"cat": 0.2, "dog": 0.7, "cow": 0.1},
        {"labels": {"cat": 0.2, "dog": 0.7}, "heatmap": [[1.0]]},
        {"predictions": [{"label": "dog", "probability": 0.7}, {"label": "cat", "probability": 0.2}]},
    ],
)
def test_the_best_class_of_anybodys_answer(answer: object) -> None:
    assert benchmark.best(answer) == "dog"


def test_what_was_measured_is_written_whole(measured: list[Measurement], tmp_path: Path) -> None:
    benchmark.write(measured, tmp_path / "serving.json")
    document = json.loads((tmp_path / "serving.json").read_text())
    assert [Measurement(**entry) for entry in document["measurements"]] == measured
    benchmark.draw(measured, tmp_path / "serving.svg")
    chart = (tmp_path / "serving.svg").read_text()
    assert all(name in chart for name in ("<svg", f"<!-- {contestants.OURS.name} -->"))
