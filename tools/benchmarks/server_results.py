"""Ratios, tables, record, and chart of the benchmark of servers."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from tools.benchmarks import systems
from tools.benchmarks.measurement import CONCURRENCIES, DEFAULT_CONCURRENCY, DEFAULT_SIZE, PHASES, Case, Measurement
from tools.benchmarks.systems import System

# Which system is divided by which baseline.
RATIOS: tuple[tuple[str, System, System], ...] = (
    ("maps ÷ labels only", systems.OURS, systems.OURS_LABELS),
    ("maps ÷ stock batch 8", systems.OURS, systems.STOCK_8),
    ("maps, decoding: fast ÷ stock batch 8", systems.OURS_FAST, systems.STOCK_8),
    ("maps, bfloat16 ÷ labels only, bfloat16", systems.OURS_BF16, systems.OURS_BF16_LABELS),
    ("maps, bfloat16 ÷ stock batch 8", systems.OURS_BF16, systems.STOCK_8),
    ("maps, int8 ÷ labels only, int8", systems.OURS_INT8, systems.OURS_INT8_LABELS),
    ("maps, int8 ÷ stock batch 8", systems.OURS_INT8, systems.STOCK_8),
    ("maps, int8 ÷ stock batch 8, pt2 with inductor", systems.OURS_INT8, systems.STOCK_INDUCTOR),
    ("maps, int8 ÷ stock batch 8, pt2 with openvino", systems.OURS_INT8, systems.STOCK_OPENVINO),
    ("maps, int8 ÷ pytorch-grad-cam", systems.OURS_INT8, systems.GRADCAM),
    ("10 classes ÷ one, int8", systems.OURS_INT8_10, systems.OURS_INT8),
    ("maps ÷ stock with TorchServe's default workers", systems.OURS, systems.STOCK_DEFAULTS),
    ("maps ÷ pytorch-grad-cam", systems.OURS, systems.GRADCAM),
    ("maps ÷ two hooks, full backward", systems.OURS, systems.TWO_HOOKS),
    ("10 classes ÷ one", systems.OURS_10, systems.OURS),
)

Value = Callable[[Measurement], float]


def spread(values: Sequence[float]) -> str:
    """Return the median with minimum and maximum."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def select(measurements: Sequence[Measurement], system: str, case: Case) -> list[Measurement]:
    """Return a system's measurements in a case, by round."""
    return [measurement for measurement in measurements if (measurement.system, measurement.case) == (system, case)]


def ratios(
    measurements: Sequence[Measurement], system: System, baseline: System, case: Case, value: Value
) -> list[float]:
    """Return the system's value divided by the baseline's, within each round."""
    references = {entry.round: value(entry) for entry in select(measurements, baseline.name, case)}
    return [
        value(entry) / references[entry.round]
        for entry in select(measurements, system.name, case)
        if entry.round in references
    ]


def latency(quantile: float) -> Value:
    """Return the function from a measurement to a quantile of its latencies, in milliseconds."""

    def value(measurement: Measurement) -> float:
        latencies = sorted(measurement.latencies)
        return 1000 * latencies[min(int(quantile * len(latencies)), len(latencies) - 1)]

    return value


def rate(measurement: Measurement) -> float:
    """Return a measurement's requests per second."""
    return measurement.rate


def worker_bytes(measurement: Measurement) -> float:
    """Return the largest peak memory of a worker."""
    return measurement.worker_bytes


def summary(measurements: Sequence[Measurement]) -> Iterator[tuple[str, list[list[float]]]]:
    """Yield the name of each ratio with its values at each concurrency."""
    cases = [Case(DEFAULT_SIZE, concurrency) for concurrency in CONCURRENCIES]
    for name, system, baseline in RATIOS:
        yield name, [ratios(measurements, system, baseline, case, rate) for case in cases]
    for ours, name in ((systems.OURS, "maps"), (systems.OURS_INT8, "maps, int8")):
        for stock in (systems.STOCK_1, systems.STOCK_8, systems.STOCK_DEFAULTS):
            yield (
                f"p50: {name} ÷ {stock.name}",
                [ratios(measurements, ours, stock, case, latency(0.5)) for case in cases],
            )
        memory = [ratios(measurements, ours, systems.STOCK_8, case, worker_bytes) for case in cases]
        yield f"a worker's memory: {name} ÷ stock batch 8", memory


# ----------------------------------------------------------------------------- output


def show(measurements: Sequence[Measurement], console: Console) -> None:
    """Print a table for each case, and a table of ratios."""
    for case in sorted({measurement.case for measurement in measurements}, key=lambda case: case.place):
        table = Table(title=f"{case.size}, {case.concurrency} concurrent requests: medians over the rounds")
        for column in (
            "",
            "requests/s",
            "p50 ms",
            "p99 ms",
            "CPU ms per request",
            "worker MB",
            "ms per phase: " + ", ".join(PHASES),
        ):
            table.add_column(column)
        for name in dict.fromkeys(measurement.system for measurement in measurements):
            if selected := select(measurements, name, case):
                table.add_row(name, *cells(selected))
        console.print(table)
    table = Table(title=f"Ratios within a round, {DEFAULT_SIZE}: median (minimum to maximum)")
    for column in ("", *(f"{concurrency} concurrent" for concurrency in CONCURRENCIES)):
        table.add_column(column)
    for name, values in summary(measurements):
        if any(values):
            table.add_row(name, *(spread(value) if value else "-" for value in values))
    console.print(table)


def cells(measurements: Sequence[Measurement]) -> list[str]:
    """Return the table cells of one system in one case."""

    def median(value: Value) -> float:
        return statistics.median(value(measurement) for measurement in measurements)

    phases = (
        f"{1000 * statistics.median(entry.phases[phase] for entry in measurements):.1f}"
        for phase in measurements[0].phases
    )
    return [
        f"{median(rate):.1f}",
        f"{median(latency(0.5)):.0f}",
        f"{median(latency(0.99)):.0f}",
        f"{median(lambda entry: 1000 * entry.cpu_seconds / entry.requests):.0f}",
        f"{median(lambda entry: entry.worker_bytes / 1e6):.0f}",
        ", ".join(phases),
    ]


def write(measurements: Sequence[Measurement], path: Path) -> None:
    """Write ratios and measurements as JSON."""
    document = {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {"platform": platform.platform(), "cores": os.cpu_count(), "memory": psutil.virtual_memory().total},
        "ratios": [{"name": name, "values": values} for name, values in summary(measurements)],
        "measurements": [measurement.record() for measurement in measurements],
    }
    path.write_text(json.dumps(document, indent=1))


def draw(measurements: Sequence[Measurement], path: Path) -> None:
    """Draw requests per second at the default size and concurrency, with minimum and maximum of the rounds."""
    from matplotlib.figure import Figure  # noqa: PLC0415  takes seconds to load

    case = Case(DEFAULT_SIZE, DEFAULT_CONCURRENCY)
    rates = {
        name: [entry.rate for entry in select(measurements, name, case)]
        for name in dict.fromkeys(entry.system for entry in measurements)
    }
    ranked = sorted(rates.items(), key=lambda entry: statistics.median(entry[1]))
    medians = [statistics.median(values) for _, values in ranked]
    errors = [[median - min(values), max(values) - median] for median, (_, values) in zip(medians, ranked, strict=True)]
    figure = Figure(figsize=(8, 0.45 * len(ranked) + 0.9), layout="constrained")
    axes = figure.add_subplot()
    colors = ["#2563a8" if name.startswith("ours") else "#9aa5b1" for name, _ in ranked]
    axes.barh([name for name, _ in ranked], medians, color=colors, xerr=list(zip(*errors, strict=True)), ecolor="#444")
    axes.set_xlabel(
        f"requests per second, ResNet-18, {case.size} JPEG, {case.concurrency} concurrent, {os.cpu_count()} cores"
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
