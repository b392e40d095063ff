"""The soak: minutes of saturation with one invalid request in ten, and the memory of worker and Java."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.progress import track

from tools.load.load_target import LoadTarget
from tools.load.resources import leaks_since, resident_megabytes, resource_snapshot
from tools.load.scenario_report import Figures, ScenarioReport, rate, summarize

SOAK_SECONDS = 300.0
WARM_UP = 0.25  # share of the soak during which one-time allocations happen


def soak(target: LoadTarget, seconds: float = SOAK_SECONDS) -> ScenarioReport:
    """Saturate the server, and sample the memory of worker and Java every second."""
    before, start = resource_snapshot(target.server), time.monotonic()
    worker, java = target.worker(), target.server.java()
    samples: list[tuple[int, float, float]] = []
    with target.traffic() as traffic:
        for _ in track(range(round(seconds)), "Soaking", console=Console(stderr=True), transient=True):
            time.sleep(1)
            samples.append((len(traffic.outcomes), resident_megabytes(worker), resident_megabytes(java)))
    warm = samples[int(len(samples) * WARM_UP) :]
    counts, worker_mb, java_mb = (list(column) for column in zip(*warm, strict=True))
    figures: Figures = {
        "seconds": round(time.monotonic() - start),
        "rate": rate(traffic.outcomes, start, time.monotonic()),
        "worker_mb": f"{worker_mb[0]:.0f} to {worker_mb[-1]:.0f}",
        "worker_mb_per_1000": per_thousand(counts, worker_mb),
        "java_mb": f"{java_mb[0]:.0f} to {java_mb[-1]:.0f}",
        "java_mb_per_1000": per_thousand(counts, java_mb),
    }
    return summarize("soak", traffic.outcomes, start, leaks_since(target.server, before), **figures)


def per_thousand(counts: Sequence[float], resident: Sequence[float]) -> float:
    """Return the slope of a line through all samples of the memory, per 1,000 requests."""
    return round(float(1000 * np.polyfit(counts, resident, 1)[0]), 2)
