"""Measure one system under test: closed-loop load, latency, processor time, memory, and time per phase."""

from __future__ import annotations

import functools
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import Any

import requests
from PIL import Image

from tools.benchmarks.systems import MODEL, System
from tools.load.closed_loop import ClosedLoop
from tools.load.connection import Connection, Exchange
from tools.load.request import TestRequest
from tools.paths import EXAMPLES
from tools.server.server import Server

# Images of 12 megapixels come last: the memory that they take stays allocated.
SIZES = {"720 × 720": (720, 720), "320 × 320": (320, 320), "4000 × 3000": (4000, 3000)}
DEFAULT_SIZE = "720 × 720"
CONCURRENCIES = (1, 4, 16, 64)
DEFAULT_CONCURRENCY = 16
WARM_SECONDS = 1.5
PHASES = ("decode", "trunk", "explain", "render")

# Records keep the key that earlier records have.
SYSTEM_KEY = "contestant"


class BenchmarkError(Exception):
    """A system answers with another class than the others, or not at all."""


@dataclass(frozen=True)
class Case:
    """The images' size and the number of concurrent requests."""

    size: str
    concurrency: int

    @property
    def place(self) -> tuple[int, int]:
        """The place of the case in the order of all cases."""
        return list(SIZES).index(self.size), self.concurrency


@dataclass(frozen=True)
class Measurement:
    """One system in one case of one round.

    Attributes:
        round: its number.
        system: the system's name.
        size: of the images.
        concurrency: the number of concurrent requests.
        requests: the number of answered requests.
        seconds: the duration of the measurement.
        latencies: of each request, in seconds.
        cpu_seconds: of all of the server's processes.
        worker_bytes: the largest peak memory of a worker so far.
        phases: seconds per request in each phase of this project's handler.
    """

    round: int
    system: str
    size: str
    concurrency: int
    requests: int
    seconds: float
    latencies: list[float]
    cpu_seconds: float
    worker_bytes: int
    phases: dict[str, float]

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def case(self) -> Case:
        """The case that was measured."""
        return Case(self.size, self.concurrency)

    def record(self) -> dict[str, Any]:
        """Return the measurement for JSON."""
        return {SYSTEM_KEY if name == "system" else name: value for name, value in asdict(self).items()}


@functools.cache
def photographs(size: str) -> list[bytes]:
    """Return the example photographs in a size, as JPEG files."""
    encoded = []
    for path in sorted(EXAMPLES.glob("*.jpg")):
        file = io.BytesIO()
        with Image.open(path) as image:
            image.convert("RGB").resize(SIZES[size], Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
        encoded.append(file.getvalue())
    return encoded


def requests_of(system: System, images: Sequence[bytes]) -> list[TestRequest]:
    """Return a system's request for each image."""
    return [TestRequest(image, {"Content-Type": "image/jpeg", **system.headers}) for image in images]


def endpoint(server: Server) -> str:
    """Return the address that takes images."""
    return f"{server.inference_url}/predictions/{MODEL}"


def answer(server: Server, system: System, image: bytes) -> bytes:
    """Send one image and return the answer.

    Raises:
        BenchmarkError: it is an error.
    """
    (request,) = requests_of(system, [image])
    with Connection(endpoint(server)) as connection:
        exchange = connection.post(request)
    check_status(exchange)
    return exchange.body


def check_status(exchange: Exchange) -> None:
    """Check that a request was answered.

    Raises:
        BenchmarkError: it was not.
    """
    if exchange.status != HTTPStatus.OK:
        raise BenchmarkError(exchange.failure or f"{exchange.status} {exchange.body[:300].decode(errors='replace')}")


class LatencyLoop(ClosedLoop[float]):
    """Clients that send all images over and over; the results are latencies in seconds."""

    def order(self, client: int) -> Iterator[int]:
        """Yield the images in order; clients start at different images."""
        return (number % len(self._requests) for number in count(client))

    def judge(self, index: int, exchange: Exchange) -> float:
        """Return the latency.

        Raises:
            BenchmarkError: the answer is an error.
        """
        check_status(exchange)
        return exchange.seconds


def load(server: Server, requests: Sequence[TestRequest], concurrency: int, seconds: float) -> list[float]:
    """Keep this many requests under way for some seconds; return the latencies.

    Raises:
        BenchmarkError: a request got an error.
    """
    with LatencyLoop(endpoint(server), requests, concurrency) as loop:
        loop.wait(seconds)
    return loop.results


def measure(server: Server, number: int, system: System, case: Case, seconds: float) -> Measurement:
    """Measure one system in one case, after a warm-up."""
    requests = requests_of(system, photographs(case.size))
    load(server, requests, case.concurrency, WARM_SECONDS)
    cpu, phases, start = cpu_seconds(server), phase_seconds(server), time.perf_counter()
    latencies = load(server, requests, case.concurrency, seconds)
    duration = time.perf_counter() - start
    return Measurement(
        round=number,
        system=system.name,
        size=case.size,
        concurrency=case.concurrency,
        requests=len(latencies),
        seconds=duration,
        latencies=latencies,
        cpu_seconds=cpu_seconds(server) - cpu,
        worker_bytes=max(peak_bytes(pid) for pid in server.worker_pids(MODEL)),
        phases={phase: (after - phases[phase]) / len(latencies) for phase, after in phase_seconds(server).items()},
    )


def cpu_seconds(server: Server) -> float:
    """Return the processor time of all of the server's processes."""
    return sum(sum(process.cpu_times()[:2]) for process in server.processes())


def peak_bytes(pid: int) -> int:
    """Return a process's peak memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def phase_seconds(server: Server) -> dict[str, float]:
    """Return the time that this project's handler has spent in each phase; empty for other handlers."""
    lines = requests.get(f"{server.metrics_url}/metrics", timeout=10).text.splitlines()
    seconds: dict[str, float] = {}
    for phase in PHASES:
        sums = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"gradcam_{phase}_seconds_sum")]
        if sums:
            seconds[phase] = sum(sums)
    return seconds
