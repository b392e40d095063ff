"""Faults under load: scenarios for `reliability.py` and the tests.

Server → load_target → a scenario, with Traffic around the fault → ScenarioReport
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from tools.load.connection import Connection
from tools.load.load_target import LoadTarget
from tools.load.misbehaving_clients import disconnect_repeatedly, send_slowly
from tools.load.request import TestRequest
from tools.load.resources import (
    SETTLE_SECONDS,
    leaks_of_stopped,
    leaks_since,
    resource_snapshot,
)
from tools.load.scenario_report import Figures, ScenarioReport, rate, summarize
from tools.load.synthetic import encoded
from tools.load.traffic import Traffic, good_since
from tools.server.processes import is_alive, wait_until

SECONDS = 10.0
RECOVERY_SECONDS = 120.0

QUEUE_CLIENTS = 48
SLOW_CLIENTS = 32
HUGE_SIDE = 7900  # pixels; close to the default limit of an image's pixels, 187 MB once decoded
SPARE_BYTES = 100_000_000  # enough for ordinary images, not for the huge one


@contextmanager
def under_load(target: LoadTarget, seconds: float) -> Iterator[Traffic]:
    """Run the block, which causes the fault, during traffic that continues until good answers come again."""
    with target.traffic() as traffic:
        time.sleep(seconds)
        fault = time.monotonic()
        yield traffic
        wait_until(lambda: any(good_since(list(traffic.outcomes), fault)), RECOVERY_SECONDS)
        time.sleep(seconds)


def worker_killed(target: LoadTarget, seconds: float = SECONDS) -> ScenarioReport:
    """Kill the worker with SIGKILL, as the kernel does when memory runs out."""
    before = resource_snapshot(target.server)
    with under_load(target, seconds) as traffic:
        fault = time.monotonic()
        target.worker().kill()
    return summarize("worker killed", traffic.outcomes, fault, leaks_since(target.server, before))


def server_terminated(target: LoadTarget, seconds: float = SECONDS) -> ScenarioReport:
    """Stop TorchServe with SIGTERM, and start another one as soon as it has ended."""
    server = target.server
    with under_load(target, seconds) as traffic:
        java, fault = server.java(), time.monotonic()
        java.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_alive(java), RECOVERY_SECONDS)
        stop_seconds = time.monotonic() - fault
        wait_until(lambda: not leaks_of_stopped(server), SETTLE_SECONDS)  # the launcher and a batch end after Java
        leaks = leaks_of_stopped(server)
        server.stop()
        server.start()
        server.wait_until_ready()
    return summarize("server stopped", traffic.outcomes, fault, leaks, seconds_to_stop=round(stop_seconds, 1))


def queue_full(target: LoadTarget, seconds: float = SECONDS, clients: int = QUEUE_CLIENTS) -> ScenarioReport:
    """Send more requests at once than a short queue holds."""
    before = resource_snapshot(target.server)
    with target.traffic(clients) as traffic:
        time.sleep(seconds)
    fault = time.monotonic()  # when it ends: the server has recovered when a single request is answered
    outcomes = [*traffic.outcomes, target.send_one()]
    rejections = [1000 * (outcome.ended - outcome.sent) for outcome in outcomes if outcome.kind.startswith("503")]
    median = round(float(np.median(rejections)), 1) if rejections else "none"
    return summarize("queue full", outcomes, fault, leaks_since(target.server, before), median_ms_of_503=median)


def slow_clients(target: LoadTarget, seconds: float = SECONDS, count: int = SLOW_CLIENTS) -> ScenarioReport:
    """Send some requests byte by byte while other clients send theirs at once."""
    before = resource_snapshot(target.server)
    with under_load(target, seconds) as traffic:
        fault = time.monotonic()
        slow = send_slowly(target.url, target.requests[:count], target.baseline[:count], seconds)
    figures: Figures = {
        "slow_clients": count,
        "of_them_answered": sum(outcome.good for outcome in slow),
        "rate_before": rate(traffic.outcomes, fault - seconds, fault),
        "rate_during": rate(traffic.outcomes, fault, fault + seconds),
    }
    return summarize("slow clients", [*traffic.outcomes, *slow], fault, leaks_since(target.server, before), **figures)


def clients_gone(target: LoadTarget, seconds: float = SECONDS) -> ScenarioReport:
    """Disconnect in the middle of requests, or before their answers come."""
    before = resource_snapshot(target.server)
    with under_load(target, seconds) as traffic:
        fault = time.monotonic()
        disconnects = disconnect_repeatedly(target.url, target.requests, seconds)
    figures: Figures = {
        "gone": disconnects,
        "rate_before": rate(traffic.outcomes, fault - seconds, fault),
        "rate_during": rate(traffic.outcomes, fault, fault + seconds),
    }
    return summarize("clients gone", traffic.outcomes, fault, leaks_since(target.server, before), **figures)


def log_disk_full(target: LoadTarget, seconds: float = SECONDS) -> ScenarioReport:
    """Fill the disk that holds the logs, then free it again."""
    assert target.server.log_dir is not None
    before, log = resource_snapshot(target.server), target.server.log_dir / "model_log.log"
    ballast = target.server.log_dir / "ballast"
    with under_load(target, seconds) as traffic:
        fault = time.monotonic()
        fill(ballast)
        sizes = [log.stat().st_size]
        time.sleep(seconds)
        sizes.append(log.stat().st_size)
        ballast.unlink()
    sizes.append(log.stat().st_size)
    leaks = leaks_since(target.server, before)
    while_full, after = (int(growth) for growth in np.diff(sizes))
    return summarize(
        "log disk full", traffic.outcomes, fault, leaks, bytes_logged_while_full=while_full, bytes_logged_after=after
    )


def fill(path: Path) -> None:
    """Write a file until its disk is full."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            return


def memory_short(target: LoadTarget, seconds: float = SECONDS) -> ScenarioReport:
    """Limit the worker's memory so that a huge image does not fit, but ordinary ones do."""
    return _memory_limited("memory short", target, seconds, SPARE_BYTES)


def memory_exhausted(target: LoadTarget, seconds: float = SECONDS) -> ScenarioReport:
    """Give the worker no more memory than it has, for some seconds."""
    return _memory_limited("memory exhausted", target, seconds, 0)


def _memory_limited(name: str, target: LoadTarget, seconds: float, spare: int) -> ScenarioReport:
    huge = encoded(Image.new("RGB", (HUGE_SIDE, HUGE_SIDE)), "png")
    before, worker = resource_snapshot(target.server), target.worker()
    with under_load(target, seconds) as traffic, Connection(target.url, timeout=60) as connection:
        worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms + spare, psutil.RLIM_INFINITY))
        exchange = connection.post(TestRequest(huge))
        time.sleep(seconds)
        worker.rlimit(psutil.RLIMIT_AS, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
        fault = time.monotonic()  # when it ends
    figures: Figures = {
        "huge_picture": f"{exchange.status} {' '.join(exchange.body.decode(errors='replace').split())}",
        "worker_lives": str(target.worker() == worker),
    }
    return summarize(name, traffic.outcomes, fault, leaks_since(target.server, before), **figures)
