"""Measures servers: TorchServe's stock classifier, Grad-CAM as others write it, and ours.

entries → Server → closed loop → Measurement → ratios within a round → table, JSON, chart

All serve the same ResNet-18 and answer the same pictures, one server after the other in random order, round after
round. Ratios are taken within a round, so that what else the machine does meets all alike. The clients run on the
same machine and take their share of it, the same of everybody's.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.client
import io
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil
import requests
from PIL import Image
from rich.console import Console
from rich.table import Table

from tools.benchmarks import systems as contestants
from tools.benchmarks.systems import Contestant, Entry
from tools.paths import ROOT
from tools.server.port_check import free_port
from tools.server.server import Server

OUTPUT = ROOT / "build" / "benchmark"
PHOTOGRAPHS = ROOT / "examples"
# The pictures of 12 megapixels last: they take memory that stays.
SIZES = {"720 × 720": (720, 720), "320 × 320": (320, 320), "4000 × 3000": (4000, 3000)}
USUAL_SIZE = "720 × 720"
CONCURRENCIES = (1, 4, 16, 64)
USUAL_CONCURRENCY = 16
WARM_SECONDS = 1.5
PHASES = ("decode", "trunk", "explain", "render")
ANSWER_SECONDS = 120

# What is compared with what, and what is wanted.
RATIOS: tuple[tuple[str, Contestant, Contestant, str], ...] = (
    ("maps ÷ labels only", contestants.OURS, contestants.OURS_LABELS, "≥ 0.97"),
    ("maps ÷ stock batch 8", contestants.OURS, contestants.STOCK_8, "≥ 2.0"),
    ("maps, decoding: fast ÷ stock batch 8", contestants.OURS_FAST, contestants.STOCK_8, "≥ 2.0"),
    ("maps, openvino ÷ stock batch 8", contestants.OURS_OPENVINO, contestants.STOCK_8, "≥ 4.0"),
    ("maps, openvino, decoding: fast ÷ stock batch 8", contestants.OURS_OPENVINO_FAST, contestants.STOCK_8, "≥ 4.0"),
    ("maps ÷ stock with TorchServe's default workers", contestants.OURS, contestants.STOCK_DEFAULTS, ""),
    ("maps ÷ pytorch-grad-cam", contestants.OURS, contestants.GRADCAM, "≥ 8"),
    ("maps ÷ two hooks, full backward", contestants.OURS, contestants.TWO_HOOKS, ""),
    ("10 classes ÷ one", contestants.OURS_10, contestants.OURS, "≥ 0.9"),
)

console = Console()


class BenchmarkError(Exception):
    """Somebody answered otherwise than all others, or not at all."""


# ----------------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Case:
    """How the requests come."""

    size: str
    concurrency: int


@dataclass(frozen=True)
class Measurement:
    """One contestant in one case of one round."""

    round: int
    contestant: str
    size: str
    concurrency: int
    requests: int
    seconds: float
    latencies: list[float]
    """Of each request, in seconds."""
    cpu_seconds: float
    """Of the server's processes."""
    worker_bytes: int
    """Most memory that a worker has had so far, of the one that had most."""
    phases: dict[str, float]
    """Seconds a request in each of our handler's phases."""

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


@functools.cache
def pictures(size: str) -> list[bytes]:
    """Returns the photographs in this size, as JPEG."""
    encoded = []
    for path in sorted(PHOTOGRAPHS.glob("*.jpg")):
        file = io.BytesIO()
        with Image.open(path) as image:
            image.convert("RGB").resize(SIZES[size], Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
        encoded.append(file.getvalue())
    return encoded


class Client:
    """Asks one question after the other over one connection."""

    def __init__(self, server: Server, contestant: Contestant, bodies: Sequence[bytes], number: int) -> None:
        """Connects; clients of other numbers begin with other pictures."""
        host, port = server.inference_url.removeprefix("http://").split(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=ANSWER_SECONDS)
        self._headers = {"Content-Type": "image/jpeg", **contestant.headers}
        self._bodies = bodies
        self._next = number

    def ask(self) -> bytes:
        """Sends the next picture and returns the answer.

        Raises:
            BenchmarkError: it is refused.
        """
        body = self._bodies[self._next % len(self._bodies)]
        self._next += 1
        self._connection.request("POST", f"/predictions/{contestants.MODEL}", body, self._headers)
        with self._connection.getresponse() as response:
            answer = response.read()
        if response.status != http.client.OK:
            raise BenchmarkError(f"{response.status} {answer[:300].decode(errors='replace')}")
        return answer

    def ask_until(self, end: float) -> list[float]:
        """Asks on until the end, on the clock `time.perf_counter`; returns how long each answer took."""
        latencies = []
        while (sent := time.perf_counter()) < end:
            self.ask()
            latencies.append(time.perf_counter() - sent)
        return latencies

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


def load(
    server: Server, contestant: Contestant, bodies: Sequence[bytes], concurrency: int, seconds: float
) -> list[float]:
    """Keeps so many requests on their way for so long; returns how long each took."""
    clients = [Client(server, contestant, bodies, number) for number in range(concurrency)]
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(concurrency) as pool:
        for client in clients:
            stack.callback(client.close)
        end = time.perf_counter() + seconds
        return [
            latency for latencies in pool.map(lambda client: client.ask_until(end), clients) for latency in latencies
        ]


def measure(server: Server, number: int, contestant: Contestant, case: Case, seconds: float) -> Measurement:
    """Measures one contestant in one case."""
    bodies = pictures(case.size)
    load(server, contestant, bodies, case.concurrency, WARM_SECONDS)
    cpu, phases, start = cpu_seconds(server), phase_seconds(server), time.perf_counter()
    latencies = load(server, contestant, bodies, case.concurrency, seconds)
    took = time.perf_counter() - start
    return Measurement(
        round=number,
        contestant=contestant.name,
        size=case.size,
        concurrency=case.concurrency,
        requests=len(latencies),
        seconds=took,
        latencies=latencies,
        cpu_seconds=cpu_seconds(server) - cpu,
        worker_bytes=max(peak_bytes(pid) for pid in server.worker_pids(contestants.MODEL)),
        phases={phase: (after - phases[phase]) / len(latencies) for phase, after in phase_seconds(server).items()},
    )


def cpu_seconds(server: Server) -> float:
    """Returns the processor time of all of the server's processes."""
    return sum(sum(process.cpu_times()[:2]) for process in server.processes())


def peak_bytes(pid: int) -> int:
    """Returns the most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def phase_seconds(server: Server) -> dict[str, float]:
    """Returns the time that our handler has spent in each of its phases; nothing of others' handlers."""
    lines = requests.get(f"{server.metrics_url}/metrics", timeout=10).text.splitlines()
    spent: dict[str, float] = {}
    for phase in PHASES:
        sums = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"gradcam_{phase}_seconds_sum")]
        if sums:
            spent[phase] = sum(sums)
    return spent


# ----------------------------------------------------------------------------- rounds


def cases(contestant: Contestant) -> list[Case]:
    """Returns the cases of a contestant."""
    if not contestant.everything:
        return [Case(USUAL_SIZE, USUAL_CONCURRENCY)]
    usual = [Case(USUAL_SIZE, concurrency) for concurrency in CONCURRENCIES]
    return [*usual, *(Case(size, USUAL_CONCURRENCY) for size in SIZES if size != USUAL_SIZE)]


def run(entries: Sequence[Entry], rounds: int, seconds: float) -> Iterator[Measurement]:
    """Measures everybody in every round, in random order; a server's contestants one after the other in each case."""
    for number in range(rounds):
        for position, entry in enumerate(random.sample(entries, len(entries)), start=1):
            names = "; ".join(contestant.name for contestant in entry.contestants)
            console.print(f"round {number + 1} of {rounds}, server {position} of {len(entries)}: {names}")
            with Server([entry.archive], free_port(), plan=entry.capacity) as server:
                together = random.sample(entry.contestants, len(entry.contestants))
                asked = [(case, contestant) for contestant in together for case in cases(contestant)]
                for case, contestant in sorted(asked, key=lambda pair: place(pair[0])):
                    yield measure(server, number, contestant, case, seconds)


def place(case: Case) -> tuple[int, int]:
    """Returns the place of a case in the order of all."""
    return list(SIZES).index(case.size), case.concurrency


def check(entries: Sequence[Entry]) -> None:
    """Has everybody answer a picture: all must find the same class.

    Raises:
        BenchmarkError: somebody finds another.
    """
    (body, *_) = pictures(USUAL_SIZE)
    found: dict[str, str] = {}
    for entry in entries:
        with Server([entry.archive], free_port(), plan=entry.capacity) as server:
            for contestant in entry.contestants:
                client = Client(server, contestant, [body], 0)
                found[contestant.name] = best(json.loads(client.ask()))
                client.close()
    if len(set(found.values())) != 1:
        raise BenchmarkError(f"not everybody finds the same class: {found}")


def best(answer: Any) -> str:
    """Returns the most probable class of anybody's answer."""
    if "predictions" in answer:
        return str(answer["predictions"][0]["label"])
    labels = answer.get("labels", answer)
    return str(max(labels, key=labels.__getitem__))


# ----------------------------------------------------------------------------- results


def spread(values: Sequence[float]) -> str:
    """Returns the median with the least and the greatest value."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def of(measured: Sequence[Measurement], contestant: str, case: Case) -> list[Measurement]:
    """Returns a contestant's measurements in a case, by round."""
    return [
        one
        for one in measured
        if (one.contestant, one.size, one.concurrency) == (contestant, case.size, case.concurrency)
    ]


def ratios(
    measured: Sequence[Measurement],
    one: Contestant,
    other: Contestant,
    case: Case,
    value: Callable[[Measurement], float],
) -> list[float]:
    """Returns one contestant's value over the other's, within each round."""
    theirs = {measurement.round: value(measurement) for measurement in of(measured, other.name, case)}
    return [value(ours) / theirs[ours.round] for ours in of(measured, one.name, case) if ours.round in theirs]


def latency(quantile: float) -> Callable[[Measurement], float]:
    """Returns what takes a measurement to a quantile of its latencies, in milliseconds."""
    return lambda one: 1000 * sorted(one.latencies)[min(int(quantile * len(one.latencies)), len(one.latencies) - 1)]


def show(measured: Sequence[Measurement]) -> None:
    """Prints the tables."""
    for case in sorted({Case(one.size, one.concurrency) for one in measured}, key=place):
        table = Table(title=f"{case.size}, {case.concurrency} at once: medians over the rounds")
        for column in (
            "",
            "requests/s",
            "p50 ms",
            "p99 ms",
            "CPU ms a request",
            "worker MB",
            "of which ms: " + ", ".join(PHASES),
        ):
            table.add_column(column)
        for name in dict.fromkeys(one.contestant for one in measured):
            if mine := of(measured, name, case):
                table.add_row(name, *row(mine))
        console.print(table)
    table = Table(title=f"Ratios within a round, {USUAL_SIZE}: median (least to greatest)")
    for column in ("", "wanted", *(f"{concurrency} at once" for concurrency in CONCURRENCIES)):
        table.add_column(column)
    for name, wanted, values in summary(measured):
        if any(values):
            table.add_row(name, wanted, *(spread(value) if value else "-" for value in values))
    console.print(table)


def row(mine: Sequence[Measurement]) -> list[str]:
    """Returns the cells of a contestant in a case."""

    def median(value: Callable[[Measurement], float]) -> float:
        return statistics.median(value(one) for one in mine)

    return [
        f"{median(lambda one: one.rate):.1f}",
        f"{median(latency(0.5)):.0f}",
        f"{median(latency(0.99)):.0f}",
        f"{median(lambda one: 1000 * one.cpu_seconds / one.requests):.0f}",
        f"{median(lambda one: one.worker_bytes / 1e6):.0f}",
        ", ".join(f"{1000 * statistics.median(one.phases[phase] for one in mine):.1f}" for phase in mine[0].phases),
    ]


def summary(measured: Sequence[Measurement]) -> Iterator[tuple[str, str, list[list[float]]]]:
    """Yields the ratios that matter, each with what is wanted and its values at each concurrency."""
    usual = [Case(USUAL_SIZE, concurrency) for concurrency in CONCURRENCIES]
    for name, one, other, wanted in RATIOS:
        yield name, wanted, [ratios(measured, one, other, case, lambda m: m.rate) for case in usual]
    for stock in (contestants.STOCK_1, contestants.STOCK_DEFAULTS):
        p50 = [ratios(measured, contestants.OURS, stock, case, latency(0.5)) for case in usual]
        yield f"p50: maps ÷ {stock.name}", "≤ 1 alone", p50
    memory = [ratios(measured, contestants.OURS, contestants.STOCK_8, case, lambda m: m.worker_bytes) for case in usual]
    yield "a worker's memory: maps ÷ stock batch 8", "≤ 1.1", memory


def write(measured: Sequence[Measurement], path: Path) -> None:
    """Writes everything as JSON."""
    document = {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {"platform": platform.platform(), "cores": os.cpu_count(), "memory": psutil.virtual_memory().total},
        "ratios": [{"name": name, "wanted": wanted, "values": values} for name, wanted, values in summary(measured)],
        "measurements": [asdict(one) for one in measured],
    }
    path.write_text(json.dumps(document, indent=1))


def draw(measured: Sequence[Measurement], path: Path) -> None:
    """Draws requests a second at the usual size and concurrency, with the least and greatest of the rounds."""
    from matplotlib.figure import Figure  # noqa: PLC0415  takes seconds to load

    case = Case(USUAL_SIZE, USUAL_CONCURRENCY)
    rates = {
        name: [one.rate for one in of(measured, name, case)] for name in dict.fromkeys(m.contestant for m in measured)
    }
    ranked = sorted(rates.items(), key=lambda entry: statistics.median(entry[1]))
    middles = [statistics.median(values) for _, values in ranked]
    errors = [[middle - min(values), max(values) - middle] for middle, (_, values) in zip(middles, ranked, strict=True)]
    figure = Figure(figsize=(8, 0.45 * len(ranked) + 0.9), layout="constrained")
    axes = figure.add_subplot()
    colors = ["#2563a8" if name.startswith("ours") else "#9aa5b1" for name, _ in ranked]
    axes.barh([name for name, _ in ranked], middles, color=colors, xerr=list(zip(*errors, strict=True)), ecolor="#444")
    axes.set_xlabel(
        f"requests a second, ResNet-18, {case.size} JPEG, {case.concurrency} at once, {os.cpu_count()} cores"
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement, default %(default)s")
    parser.add_argument(
        "--variants", action="store_true", help="only ours, with other workers, threads, batches and delays"
    )
    options = parser.parse_args(arguments)
    name = "variants" if options.variants else "serving"
    OUTPUT.mkdir(parents=True, exist_ok=True)
    measured: list[Measurement] = []
    with tempfile.TemporaryDirectory(prefix="gradcam-benchmark-") as folder:
        console.print("Building the archives")
        entries = (contestants.variants if options.variants else contestants.entries)(Path(folder))
        console.print("Checking that all find the same class")
        check(entries)
        for measurement in run(entries, options.rounds, options.seconds):
            measured.append(measurement)
            write(measured, OUTPUT / f"{name}.json")
    show(measured)
    draw(measured, OUTPUT / f"{name}.svg")
    console.print(f"{OUTPUT}/{name}.json, {name}.svg")
    return 0
