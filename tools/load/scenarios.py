"""The faults, each under load, and what it leaves: scenarios for `reliability.py` and the tests.

Server → connect → Service → a scenario, with Traffic around the fault → Report
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from rich.console import Console
from rich.progress import track

from tools.load.misbehaving_clients import go_away, send_slowly
from tools.load.traffic import (
    CLIENTS,
    NO_ANSWER,
    Answer,
    Outcome,
    Question,
    Traffic,
    ask,
    encoded,
    good_since,
    learn,
    make_questions,
    session,
)
from tools.server.processes import is_alive, wait_until
from tools.server.server import Server

GOOD, BAD = 36, 4
SECONDS = 10.0
SOAK_SECONDS = 300.0
RECOVERY_SECONDS = 120.0
SETTLE_SECONDS = 10.0

QUEUE_CLIENTS = 48
SLOW_CLIENTS = 32
HUGE_SIDE = 7900  # as many pixels as the settings allow, 187 MB once decoded
SPARE_BYTES = 100_000_000  # enough for ordinary pictures, not for that one
WARM_UP = 0.25  # of the soak, while what is allocated once is

Figures = dict[str, float | int | str]


# ----------------------------------------------------------------------------- service


@dataclass(frozen=True)
class Service:
    """A model of a running server, and the requests whose answers are known."""

    server: Server
    model: str
    questions: Sequence[Question]
    answers: Sequence[Answer]

    @property
    def url(self) -> str:
        """Takes the requests."""
        return endpoint(self.server, self.model)

    def worker(self) -> psutil.Process:
        """Returns the model's only worker."""
        (pid,) = self.server.worker_pids(self.model)
        return psutil.Process(pid)

    def traffic(self, clients: int = CLIENTS) -> Traffic:
        """Returns clients that ask all the questions."""
        return Traffic(self.url, self.questions, self.answers, clients)

    def ask_alone(self) -> Outcome:
        """Asks the first question, when nothing else goes on."""
        with session() as own:
            return ask(own, self.url, self.questions[0], self.answers[0])


def connect(server: Server, model: str, good: int = GOOD, bad: int = BAD) -> Service:
    """Asks every question once, while the server has nothing else to do."""
    questions = make_questions(good, bad)
    return Service(server, model, questions, learn(endpoint(server, model), questions))


def endpoint(server: Server, model: str) -> str:
    """Returns the address that takes pictures."""
    return f"{server.inference_url}/predictions/{model}"


# ----------------------------------------------------------------------------- report


@dataclass(frozen=True)
class Report:
    """What a scenario showed."""

    scenario: str
    sent: int
    answered: int
    """How many got their picture's answer."""
    refused: int
    """How many got the refusal that is right for them."""
    errors: dict[str, int]
    """How many of the others ended how, by status and kind."""
    messages: dict[str, str]
    """What TorchServe said, by kind of error."""
    wrong: int
    """How many were answered with what is not their answer."""
    recovery_seconds: float | None
    """From the fault until the next good answer to a request sent after it."""
    slowest_seconds: float
    """Of the good answers."""
    left: list[str]
    """What is there afterwards that was not there before."""
    figures: Figures = field(default_factory=dict)
    """What else this scenario is about."""

    @property
    def lost(self) -> int:
        """How many requests ended without any answer or error."""
        return self.errors.get(NO_ANSWER, 0)


def report(
    scenario: str, outcomes: Sequence[Outcome], fault: float, left: list[str], **figures: float | int | str
) -> Report:
    """Sums up what became of the requests; the fault's moment is of the clock `time.monotonic`."""
    recovered = min((outcome.ended for outcome in good_since(outcomes, fault)), default=None)
    return Report(
        scenario=scenario,
        sent=len(outcomes),
        answered=sum(outcome.good and outcome.kind == "200" for outcome in outcomes),
        refused=sum(outcome.good and outcome.kind != "200" for outcome in outcomes),
        errors=dict(Counter(outcome.kind for outcome in outcomes if not outcome.good)),
        messages={outcome.kind: outcome.message for outcome in outcomes if outcome.message},
        wrong=sum(outcome.wrong for outcome in outcomes),
        recovery_seconds=None if recovered is None else round(recovered - fault, 2),
        slowest_seconds=round(max((o.ended - o.sent for o in outcomes if o.good), default=0.0), 2),
        left=left,
        figures=figures,
    )


def rate(outcomes: Sequence[Outcome], start: float, end: float) -> float:
    """Returns good answers a second between two moments."""
    return round(sum(outcome.good and start < outcome.ended <= end for outcome in outcomes) / (end - start), 1)


# ----------------------------------------------------------------------------- what is left


def footprint(server: Server) -> Counter[str]:
    """Counts the server's processes, files but logs, and the connections of its clients."""
    found = Counter(f"process {process.name()}" for process in server.processes())
    files = (path.relative_to(server.directory) for path in server.directory.rglob("*"))
    found.update(f"file {path}" for path in files if path.parts[0] != "logs" and "__pycache__" not in path.parts)
    port = int(server.inference_url.rpartition(":")[2])
    connections = server.java().net_connections(kind="tcp")
    found["connections"] = sum(entry.laddr.port == port and entry.status != "LISTEN" for entry in connections)
    return found


def left_since(server: Server, before: Counter[str]) -> list[str]:
    """Returns what there is more than before, once that has had time to go."""
    wait_until(lambda: not footprint(server) - before, SETTLE_SECONDS)
    return [f"{count} × {name}" for name, count in sorted((footprint(server) - before).items())]


# ----------------------------------------------------------------------------- scenarios


@contextmanager
def under_load(service: Service, seconds: float) -> Iterator[Traffic]:
    """Runs the block, which is the fault, in the middle of traffic that goes on until good answers come again."""
    with service.traffic() as traffic:
        time.sleep(seconds)
        fault = time.monotonic()
        yield traffic
        wait_until(lambda: any(good_since(list(traffic.outcomes), fault)), RECOVERY_SECONDS)
        time.sleep(seconds)


def worker_killed(service: Service, seconds: float = SECONDS) -> Report:
    """SIGKILL for the worker, as the kernel does it when memory is over."""
    before = footprint(service.server)
    with under_load(service, seconds) as traffic:
        fault = time.monotonic()
        service.worker().kill()
    return report("worker killed", traffic.outcomes, fault, left_since(service.server, before))


def server_terminated(service: Service, seconds: float = SECONDS) -> Report:
    """SIGTERM for TorchServe, and a new one in its place as soon as it is gone."""
    server = service.server
    with under_load(service, seconds) as traffic:
        java, fault = server.java(), time.monotonic()
        java.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_alive(java), RECOVERY_SECONDS)
        gone = time.monotonic() - fault
        wait_until(lambda: not left_of_stopped(server), SETTLE_SECONDS)  # the launcher and a batch end after Java
        left = left_of_stopped(server)
        server.stop()
        server.start()
        server.wait_until_ready()
    return report("server stopped", traffic.outcomes, fault, left, seconds_to_stop=round(gone, 1))


def left_of_stopped(server: Server) -> list[str]:
    """Returns what a TorchServe that has ended leaves, but for the shell that this program itself guards it with."""
    processes = [f"process {process.name()}" for process in server.processes() if process.name() != "sh"]
    return processes + [f"file {path.name}" for path in server.directory.glob(".ts.sock.*")]


def queue_full(service: Service, seconds: float = SECONDS, clients: int = QUEUE_CLIENTS) -> Report:
    """More requests at once than a short queue takes."""
    before = footprint(service.server)
    with service.traffic(clients) as traffic:
        time.sleep(seconds)
    fault = time.monotonic()  # its end, rather: it works again when one alone is answered
    outcomes = [*traffic.outcomes, service.ask_alone()]
    refusals = [1000 * (outcome.ended - outcome.sent) for outcome in outcomes if outcome.kind.startswith("503")]
    median = round(float(np.median(refusals)), 1) if refusals else "none"
    return report("queue full", outcomes, fault, left_since(service.server, before), median_ms_of_503=median)


def slow_clients(service: Service, seconds: float = SECONDS, count: int = SLOW_CLIENTS) -> Report:
    """Clients that send a byte at a time, while others are in a hurry."""
    before = footprint(service.server)
    with under_load(service, seconds) as traffic:
        fault = time.monotonic()
        slow = send_slowly(service.url, service.questions[:count], service.answers[:count], seconds)
    figures: Figures = {
        "slow_clients": count,
        "of_them_answered": sum(outcome.good for outcome in slow),
        "rate_before": rate(traffic.outcomes, fault - seconds, fault),
        "rate_during": rate(traffic.outcomes, fault, fault + seconds),
    }
    return report("slow clients", [*traffic.outcomes, *slow], fault, left_since(service.server, before), **figures)


def clients_gone(service: Service, seconds: float = SECONDS) -> Report:
    """Clients that go away in the middle of their request, or before its answer comes."""
    before = footprint(service.server)
    with under_load(service, seconds) as traffic:
        fault = time.monotonic()
        gone = go_away(service.url, service.questions, seconds)
    figures: Figures = {
        "gone": gone,
        "rate_before": rate(traffic.outcomes, fault - seconds, fault),
        "rate_during": rate(traffic.outcomes, fault, fault + seconds),
    }
    return report("clients gone", traffic.outcomes, fault, left_since(service.server, before), **figures)


def log_disk_full(service: Service, seconds: float = SECONDS) -> Report:
    """The disk with the logs is full, to the last byte, until somebody makes room."""
    assert service.server.log_dir is not None
    before, log = footprint(service.server), service.server.log_dir / "model_log.log"
    ballast = service.server.log_dir / "ballast"
    with under_load(service, seconds) as traffic:
        fault = time.monotonic()
        fill(ballast)
        sizes = [log.stat().st_size]
        time.sleep(seconds)
        sizes.append(log.stat().st_size)
        ballast.unlink()
    sizes.append(log.stat().st_size)
    left = left_since(service.server, before)
    full, again = (int(grown) for grown in np.diff(sizes))
    return report(
        "log disk full", traffic.outcomes, fault, left, bytes_logged_while_full=full, bytes_logged_after=again
    )


def fill(path: Path) -> None:
    """Writes a file until nothing more fits on its disk."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            return


def memory_short(service: Service, seconds: float = SECONDS) -> Report:
    """A limit on the worker's memory that a huge picture does not fit in, but the others do."""
    return _memory_limited("memory short", service, seconds, SPARE_BYTES)


def memory_exhausted(service: Service, seconds: float = SECONDS) -> Report:
    """For some seconds the worker gets no memory that it does not have already."""
    return _memory_limited("memory exhausted", service, seconds, 0)


def _memory_limited(name: str, service: Service, seconds: float, spare: int) -> Report:
    huge = encoded(Image.new("RGB", (HUGE_SIDE, HUGE_SIDE)), "png")
    before, worker = footprint(service.server), service.worker()
    with under_load(service, seconds) as traffic, session() as own:
        worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms + spare, psutil.RLIM_INFINITY))
        response = own.post(service.url, data=huge, timeout=60)
        time.sleep(seconds)
        worker.rlimit(psutil.RLIMIT_AS, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
        fault = time.monotonic()  # its end
    figures: Figures = {
        "huge_picture": f"{response.status_code} {' '.join(response.text.split())}",
        "worker_lives": str(service.worker() == worker),
    }
    return report(name, traffic.outcomes, fault, left_since(service.server, before), **figures)


def soak(service: Service, seconds: float = SOAK_SECONDS) -> Report:
    """Saturation with one bad request in ten, and the memory of worker and Java."""
    before, start = footprint(service.server), time.monotonic()
    worker, java = service.worker(), service.server.java()
    samples: list[tuple[int, float, float]] = []
    with service.traffic() as traffic:
        for _ in track(range(round(seconds)), "Soaking", console=Console(stderr=True), transient=True):
            time.sleep(1)
            samples.append((len(traffic.outcomes), megabytes(worker), megabytes(java)))
    warm = samples[int(len(samples) * WARM_UP) :]
    counts, of_worker, of_java = (list(column) for column in zip(*warm, strict=True))
    figures: Figures = {
        "seconds": round(time.monotonic() - start),
        "rate": rate(traffic.outcomes, start, time.monotonic()),
        "worker_mb": f"{of_worker[0]:.0f} to {of_worker[-1]:.0f}",
        "worker_mb_per_1000": per_thousand(counts, of_worker),
        "java_mb": f"{of_java[0]:.0f} to {of_java[-1]:.0f}",
        "java_mb_per_1000": per_thousand(counts, of_java),
    }
    return report("soak", traffic.outcomes, start, left_since(service.server, before), **figures)


def megabytes(process: psutil.Process) -> float:
    """Returns the process's resident memory."""
    return float(process.memory_info().rss / 1e6)


def per_thousand(counts: Sequence[float], resident: Sequence[float]) -> float:
    """Returns the slope of the line through all samples of the memory, per 1,000 requests."""
    return round(float(1000 * np.polyfit(counts, resident, 1)[0]), 2)
