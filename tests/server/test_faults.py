"""Faults under load: what clients see, recovery, and that each answer belongs to its request.

The scenarios are those of `scripts/reliability.py`, with fewer requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.archive.rewrite import reconfigure
from tools.load import resources
from tools.load.connection import BROKEN, NOT_CONNECTED
from tools.load.load_target import LoadTarget, load_target
from tools.load.misbehaving_clients import connect
from tools.load.scenario_report import ScenarioReport
from tools.load.scenarios import (
    clients_gone,
    queue_full,
    server_terminated,
    slow_clients,
    worker_killed,
)
from tools.load.traffic import CLIENTS, Traffic
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
def target(squash_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadTarget]:
    """A separate server whose queue the scenarios' usual number of clients cannot fill."""
    archive = reconfigure(squash_archive, tmp_path_factory.mktemp("faults") / "faults.mar", jobQueueSize=QUEUE)
    with Server([archive], free_port()) as server:
        yield load_target(server, "faults", valid=18, invalid=2)


def check(report: ScenarioReport, errors: set[str]) -> None:
    """Check that requests failed with exactly these errors, and what must hold in every scenario."""
    assert report.wrong == 0
    assert report.lost == 0
    assert report.leaks == []
    assert report.recovery_seconds is not None
    assert set(report.errors) == errors
    assert report.answered > 0


def test_killed_worker_fails_only_its_batch(target: LoadTarget) -> None:
    killed = target.worker()

    report = worker_killed(target, SECONDS)

    check(report, {WORKER_DIED})
    # Only the batch in the worker fails; queued requests are answered by the next worker.
    assert 1 <= report.errors[WORKER_DIED] <= BATCH
    assert report.messages == {WORKER_DIED: "Worker died."}
    assert not killed.is_running()
    assert target.worker() != killed


@pytest.mark.full
def test_stopped_server_answers_or_refuses_connections(target: LoadTarget) -> None:
    report = server_terminated(target, SECONDS)

    check(report, {BROKEN, NOT_CONNECTED})
    # At most one per client: the server accepts no connection after that.
    assert 1 <= report.errors[BROKEN] <= CLIENTS
    assert 0 < float(report.figures["seconds_to_stop"]) < 10


def test_full_queue_rejects_requests(target: LoadTarget) -> None:
    report = queue_full(target, SECONDS, clients=2 * QUEUE)

    check(report, {QUEUE_FULL})
    assert report.errors[QUEUE_FULL] > 10
    assert report.recovery_seconds is not None
    assert report.recovery_seconds < 5


def test_slow_clients_do_not_delay_others(target: LoadTarget) -> None:
    report = slow_clients(target, SECONDS, count=12)

    check(report, set())
    assert report.figures["of_them_answered"] == 12
    # The machine may be shared: the rate may fall to a third.
    assert float(report.figures["rate_during"]) > float(report.figures["rate_before"]) / 3


def test_disconnecting_clients_do_not_affect_others(target: LoadTarget) -> None:
    worker = target.worker()

    report = clients_gone(target, SECONDS)

    check(report, set())
    assert float(report.figures["gone"]) >= 4
    assert target.worker() == worker


def test_every_answer_belongs_to_its_request(target: LoadTarget) -> None:
    with target.traffic() as traffic:
        assert wait_until(lambda: kinds(traffic) >= ANSWERED and len(traffic.outcomes) >= 60, timeout=60)

    assert kinds(traffic) == ANSWERED
    assert all(outcome.good for outcome in traffic.outcomes)


def test_swapped_answers_are_detected(target: LoadTarget) -> None:
    others = [*target.baseline[1:], target.baseline[0]]

    with Traffic(target.url, target.requests, others, clients=4) as traffic:
        assert wait_until(lambda: len(traffic.outcomes) >= 20, timeout=60)

    assert all(outcome.wrong and not outcome.good for outcome in traffic.outcomes)


def test_leaks_are_detected(target: LoadTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "SETTLE_SECONDS", 0.5)
    server = target.server
    before = resources.resource_snapshot(server)
    leaked = server.directory / "forgotten"
    leaked.touch()

    with connect(server.inference_url):
        leaks = resources.leaks_since(server, before)
    leaked.unlink()

    assert leaks == ["1 × connections", "1 × file forgotten"]
    assert before["process java"] == 1


def kinds(traffic: Traffic) -> set[str]:
    return {outcome.kind for outcome in list(traffic.outcomes)}
