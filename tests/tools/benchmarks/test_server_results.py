"""Ratios, tables, record, and chart of the benchmark of servers, by value."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.benchmarks import systems
from tools.benchmarks.measurement import CONCURRENCIES, DEFAULT_CONCURRENCY, DEFAULT_SIZE, Case, Measurement
from tools.benchmarks.server_results import cells, draw, latency, ratios, spread, summary, write
from tools.benchmarks.systems import System

DEFAULT = Case(DEFAULT_SIZE, DEFAULT_CONCURRENCY)


def measurement(system: System, number: int, requests: int, **changes: object) -> Measurement:
    values: dict[str, object] = {
        "round": number,
        "system": system.name,
        "size": DEFAULT_SIZE,
        "concurrency": DEFAULT_CONCURRENCY,
        "requests": requests,
        "seconds": 2.0,
        "latencies": [0.1, 0.3, 0.2],
        "cpu_seconds": 3.0,
        "worker_bytes": 10**9,
        "phases": {},
    }
    return Measurement(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def measurements() -> list[Measurement]:
    """The machine was ten times slower in the second round, for both systems; the third round has only one."""
    ours, stock = systems.OURS, systems.STOCK_8
    return [
        measurement(stock, 0, 100),
        measurement(ours, 0, 200),
        measurement(ours, 1, 30),
        measurement(stock, 1, 10),
        measurement(ours, 2, 500),
    ]


def test_ratios_are_taken_within_a_round(measurements: list[Measurement]) -> None:
    rates = ratios(measurements, systems.OURS, systems.STOCK_8, DEFAULT, lambda entry: entry.rate)
    assert rates == [2.0, 3.0]


def test_other_cases_are_left_out(measurements: list[Measurement]) -> None:
    single = Case(DEFAULT_SIZE, 1)
    assert ratios(measurements, systems.OURS, systems.STOCK_8, single, lambda entry: entry.rate) == []


def test_spread_has_median_and_extremes() -> None:
    assert spread([3.0, 1.0, 2.5]) == "2.50 (1.00 to 3.00)"


def test_quantiles_of_latencies_are_in_milliseconds() -> None:
    entry = measurement(systems.OURS, 0, 100, latencies=[number / 1000 for number in range(100, 0, -1)])
    assert latency(0.5)(entry) == pytest.approx(51)
    assert latency(0.99)(entry) == pytest.approx(100)


def test_cells_are_medians() -> None:
    selected = [
        measurement(systems.OURS, number, requests, phases={"decode": 0.002, "trunk": 0.04})
        for number, requests in enumerate((100, 120, 600))
    ]
    assert cells(selected) == ["60.0", "200", "300", "25", "1000", "2.0, 40.0"]


def test_summary_compares_the_named_systems(measurements: list[Measurement]) -> None:
    values = dict(summary(measurements))
    position = CONCURRENCIES.index(DEFAULT_CONCURRENCY)
    assert values["maps ÷ stock batch 8"][position] == [2.0, 3.0]
    assert values["maps ÷ pytorch-grad-cam"][position] == []


def test_record_and_chart_contain_all_measurements(measurements: list[Measurement], tmp_path: Path) -> None:
    write(measurements, tmp_path / "serving.json")
    document = json.loads((tmp_path / "serving.json").read_text())
    entries = [
        {("system" if key == "contestant" else key): entry[key] for key in entry} for entry in document["measurements"]
    ]
    assert [Measurement(**entry) for entry in entries] == measurements
    draw(measurements, tmp_path / "serving.svg")
    chart = (tmp_path / "serving.svg").read_text()
    assert all(name in chart for name in ("<svg", f"<!-- {systems.OURS.name} -->"))
