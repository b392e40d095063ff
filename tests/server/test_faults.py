"""Faults under load: what clients see, recovery, and that each answer belongs to its request.

The scenarios are those of `scripts/reliability.py`, with fewer requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.load import scenarios as faults
from tools.load.misbehaving_clients import connection
from tools.load.reliability import reconfigured
from tools.load.scenarios import (
    Report,
    Service,
    clients_gone,
    connect,
    queue_full,
    server_terminated,
    slow_clients,
    worker_killed,
)
from tools.load.traffic import BROKEN, CLIENTS, NOT_CONNECTED, Traffic
from tools.server.port_check import free_port
from tools.server.processes import wait_until
from tools.server.server import Server

SECONDS = 2.0
BATCH = 8
QUEUE = 32
ANSWERED = {"200", "400", "422"}
WORKER_DIED = "507 InternalServerException"
QUEUE_FULL = "503 ServiceUnavailableException"


@pytest.fixture(scope="module")
def service(squash_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A separate server whose queue the scenarios' usual number of clients cannot fill."""
    archive = reconfigured(squash_archive, tmp_path_factory.mktemp("faults") / "faults.mar", jobQueueSize=QUEUE)
    with Server([archive], free_port()) as server:
        yield connect(server, "faults", good=18, bad=2)


def check(report: Report, errors: set[str]) -> None:
    """Check that requests failed with exactly these errors, and what must hold in every scenario."""
    assert report.wrong == 0
    assert report.lost == 0
    assert report.left == []
    assert report.recovery_seconds is not None
    assert set(report.errors) == errors
    assert report.answered > 0


def test_killed_worker_fails_only_its_batch(service: Service) -> None:
    killed = service.worker()

    report = worker_killed(service, SECONDS)

    check(report, {WORKER_DIED})
    # Only the batch in the worker fails; queued requests are answered by the next worker.
    assert 1 <= report.errors[WORKER_DIED] <= BATCH
    assert report.messages == {WORKER_DIED: "Worker died."}
    assert not killed.is_running()
    assert service.worker() != killed


def test_stopped_server_answers_or_refuses_connections(service: Service) -> None:
    report = server_terminated(service, SECONDS)

    check(report, {BROKEN, NOT_CONNECTED})
    # At most one per client: the server accepts no connection after that.
    assert 1 <= report.errors[BROKEN] <= CLIENTS
    assert 0 < float(report.figures["seconds_to_stop"]) < 10


def test_full_queue_rejects_requests(service: Service) -> None:
    report = queue_full(service, SECONDS, clients=2 * QUEUE)

    check(report, {QUEUE_FULL})
    assert report.errors[QUEUE_FULL] > 10
    assert report.recovery_seconds is not None
    assert report.recovery_seconds < 5


def test_slow_clients_do_not_delay_others(service: Service) -> None:
    report = slow_clients(service, SECONDS, count=12)

    check(report, set())
    assert report.figures["of_them_answered"] == 12
    # The machine may be shared: the rate may fall to a third.
    assert float(report.figures["rate_during"]) > float(report.figures["rate_before"]) / 3


def test_disconnecting_clients_do_not_affect_others(service: Service) -> None:
    worker = service.worker()

    report = clients_gone(service, SECONDS)

    check(report, set())
    assert float(report.figures["gone"]) >= 4
    assert service.worker() == worker


def test_every_answer_belongs_to_its_request(service: Service) -> None:
    with service.traffic() as traffic:
        assert wait_until(lambda: kinds(traffic) >= ANSWERED and len(traffic.outcomes) >= 60, timeout=60)

    assert kinds(traffic) == ANSWERED
    assert all(outcome.good for outcome in traffic.outcomes)


def test_swapped_answers_are_detected(service: Service) -> None:
    others = [*service.answers[1:], service.answers[0]]

    with Traffic(service.url, service.questions, others, clients=4) as traffic:
        assert wait_until(lambda: len(traffic.outcomes) >= 20, timeout=60)

    assert all(outcome.wrong and not outcome.good for outcome in traffic.outcomes)


def test_leaks_are_detected(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "SETTLE_SECONDS", 0.5)
    server = service.server
    before = faults.footprint(server)
    leaked = server.directory / "forgotten"
    leaked.touch()

    with connection(server.inference_url):
        left = faults.left_since(server, before)
    leaked.unlink()

    assert left == ["1 × connections", "1 × file forgotten"]
    assert before["process java"] == 1


def kinds(traffic: Traffic) -> set[str]:
    return {outcome.kind for outcome in list(traffic.outcomes)}
