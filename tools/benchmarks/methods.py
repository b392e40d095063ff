"""Measure what an explanation costs, against the plain forward pass and against other libraries.

contests → interleaved → seconds → compare → Comparison → table, JSON

All participants get the same normalized images and return the prediction and the map of the predicted class. A round
runs each participant once, in random order, and ratios are taken within a round, so that other load on the machine
affects all alike. The JSON also contains seconds, which mean little on a machine that is not idle.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from gradcam.network.architecture import NetworkError
from gradcam.split.parts import SplitError
from tools.benchmarks.contest import Benchmark, Comparison, comparisons, contests
from tools.benchmarks.method_results import machine, table, write
from tools.server.signals import INTERRUPTED

OUTPUT = Path("build/benchmark")

console = Console()
progress = Console(stderr=True)


def measure(benchmark: Benchmark, rounds: int) -> tuple[list[Comparison], list[dict[str, Any]]]:
    """Run all contests; return the comparisons, and the seconds for the record."""
    results: list[Comparison] = []
    record = []
    for contest in track(contests(rounds, benchmark.device), "Measuring", console=progress):
        seconds = benchmark.run(contest)
        results += comparisons(contest.method, contest.batch, seconds)
        record.append({**asdict(contest), "seconds": seconds})
    return results, record


def run(options: argparse.Namespace) -> None:
    """Run all contests; print and record the results."""
    before = machine(options.device)
    benchmark = Benchmark(options.arch, options.device)
    results, record = measure(benchmark, options.rounds)
    title = f"{options.arch} at {benchmark.layer}, {before['device']}, {before['threads']} threads"
    console.print(table(results, title))
    for name, reason in benchmark.left_out.items():
        console.print(f"left out: {name}: {reason}", highlight=False, markup=False)
    document = {
        **before,
        "load_at_the_end": os.getloadavg()[0],
        "architecture": options.arch,
        "layer": benchmark.layer,
        "left_out": benchmark.left_out,
        "rows": [asdict(entry) for entry in results],
        "contests": record,
    }
    path = options.output / f"methods-{options.arch}-{options.device}.json"
    write(path, document)
    console.print(f"written: {path}", highlight=False)


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--arch", default="resnet18", help="the network (default: %(default)s)")
    parser.add_argument("--rounds", type=positive, default=30, help="runs of each participant (default: %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder of the records (default: %(default)s)")
    return parser


def positive(text: str) -> int:
    """Parse a positive integer."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = argument_parser().parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("benchmark_methods: not measured: there is no CUDA device", file=sys.stderr)
        return 1
    try:
        run(options)
    except (NetworkError, SplitError) as error:
        print(f"benchmark_methods: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
