"""Measure servers: TorchServe's stock classifier, Grad-CAM as others write it, and this project.

deployments → Server → closed loop → Measurement → ratios within a round → table, JSON, chart

All systems serve the same ResNet-18 and answer the same images. Every round measures each server once, in random order,
and ratios are taken within a round, so that other load on the machine affects all systems alike. The clients run on the
same machine and take their share of it, the same for every system.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from tools.benchmarks import systems
from tools.benchmarks.measurement import (
    CONCURRENCIES,
    DEFAULT_CONCURRENCY,
    DEFAULT_SIZE,
    SIZES,
    BenchmarkError,
    Case,
    Measurement,
    answer,
    measure,
    photographs,
)
from tools.benchmarks.server_results import draw, show, write
from tools.benchmarks.systems import Deployment, System
from tools.paths import BUILD
from tools.server.port_check import free_port
from tools.server.server import Server

OUTPUT = BUILD / "benchmark"

console = Console()


def cases(system: System) -> list[Case]:
    """Return the cases of a system."""
    if not system.all_cases:
        return [Case(DEFAULT_SIZE, DEFAULT_CONCURRENCY)]
    concurrent = [Case(DEFAULT_SIZE, concurrency) for concurrency in CONCURRENCIES]
    return [*concurrent, *(Case(size, DEFAULT_CONCURRENCY) for size in SIZES if size != DEFAULT_SIZE)]


def run(deployments: Sequence[Deployment], rounds: int, seconds: float) -> Iterator[Measurement]:
    """Measure every system in every round, in random order; systems of one server take turns in each case."""
    for number in range(rounds):
        for position, deployment in enumerate(random.sample(deployments, len(deployments)), start=1):
            names = "; ".join(system.name for system in deployment.systems)
            console.print(f"round {number + 1} of {rounds}, server {position} of {len(deployments)}: {names}")
            with Server([deployment.archive], free_port(), plan=deployment.worker_plan) as server:
                shuffled = random.sample(deployment.systems, len(deployment.systems))
                pairs = [(case, system) for system in shuffled for case in cases(system)]
                for case, system in sorted(pairs, key=lambda pair: pair[0].place):
                    yield measure(server, number, system, case, seconds)


def check(deployments: Sequence[Deployment]) -> None:
    """Check that all systems predict the same class for an image.

    Raises:
        BenchmarkError: they do not.
    """
    (image, *_) = photographs(DEFAULT_SIZE)
    predicted: dict[str, str] = {}
    for deployment in deployments:
        with Server([deployment.archive], free_port(), plan=deployment.worker_plan) as server:
            for system in deployment.systems:
                predicted[system.name] = best(json.loads(answer(server, system, image)))
    if len(set(predicted.values())) != 1:
        raise BenchmarkError(f"Systems predict different classes: {predicted}")


def best(document: Any) -> str:
    """Return the most probable class of any system's answer."""
    if "predictions" in document:
        return str(document["predictions"][0]["label"])
    labels = document.get("labels", document)
    return str(max(labels, key=labels.__getitem__))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement (default: %(default)s)")
    parser.add_argument(
        "--variants", action="store_true", help="only this project, with other workers, threads, batches, and delays"
    )
    options = parser.parse_args(arguments)
    name = "variants" if options.variants else "serving"
    OUTPUT.mkdir(parents=True, exist_ok=True)
    measurements: list[Measurement] = []
    with tempfile.TemporaryDirectory(prefix="gradcam-benchmark-") as folder:
        console.print("Building the archives")
        deployments = (systems.variants if options.variants else systems.deployments)(Path(folder))
        console.print("Checking that all systems predict the same class")
        check(deployments)
        for measurement in run(deployments, options.rounds, options.seconds):
            measurements.append(measurement)
            write(measurements, OUTPUT / f"{name}.json")
    show(measurements, console)
    draw(measurements, OUTPUT / f"{name}.svg")
    console.print(f"{OUTPUT}/{name}.json, {name}.svg")
    return 0
