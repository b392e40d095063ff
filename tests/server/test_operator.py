"""The operator's control over expensive methods, on a server with two workers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from tests.support.encoding import encoded
from tests.support.served import Call, Model, error, sample
from tools.archive.rewrite import read_config, reconfigure
from tools.server.capacity import WorkerPlan
from tools.server.port_check import free_port
from tools.server.server import Server

IMAGE = encoded(sample(83))
SCORECAM = Call(IMAGE, {"Gradcam-Method": "scorecam"})
CLIENTS = 4
PLAIN_REQUESTS = 10


@pytest.fixture(scope="module")
def two_workers(store: Path, squash_archive: Path) -> Iterator[Server]:
    """The archive `squash`, as built and with Score-CAM allowed."""
    allowing = read_config(squash_archive)["gradcam"] | {"methods": ["gradcam", "scorecam"], "max_passes": 513}
    allowed = reconfigure(squash_archive, store / "allowed.mar", gradcam=allowing)
    with Server([squash_archive, allowed], free_port(), plan=WorkerPlan(2, 1)) as server:
        yield server


def statuses_of_scorecam(model: Model, stop: Event) -> list[int]:
    """Send Score-CAM until `stop` is set."""
    statuses = []
    while not stop.is_set():
        statuses.append(model.post(SCORECAM).status_code)
    return statuses


def under_scorecam(model: Model) -> list[int]:
    """Send plain requests, which all succeed, while clients send Score-CAM; return the statuses of the latter."""
    stop = Event()
    with ThreadPoolExecutor(CLIENTS) as clients:
        running = [clients.submit(statuses_of_scorecam, model, stop) for _ in range(CLIENTS)]
        try:
            for _ in range(PLAIN_REQUESTS):
                assert model.predict(IMAGE, targets="7")["explanations"][0]["index"] == 7
        finally:
            stop.set()
    return [status for client in running for status in client.result()]


def test_scorecam_is_rejected_unless_allowed(two_workers: Server, squash: Model) -> None:
    model = Model(two_workers, "squash", squash.network, squash.labels)
    assert error(model.post(SCORECAM), 422)[0] == "method_not_allowed"
    assert set(under_scorecam(model)) == {422}


def test_plain_requests_are_answered_while_one_worker_runs_scorecam(two_workers: Server, squash: Model) -> None:
    model = Model(two_workers, "allowed", squash.network, squash.labels)
    pids = two_workers.worker_pids("allowed")
    assert set(under_scorecam(model)) <= {200, 422}
    with ThreadPoolExecutor(CLIENTS) as clients:
        rejected = [
            response for response in clients.map(model.post, [SCORECAM] * CLIENTS) if response.status_code != 200
        ]
    assert {error(response, 422)[0] for response in rejected} <= {"too_expensive"}
    assert two_workers.worker_pids("allowed") == pids
    assert len(pids) == 2


def test_passes_over_the_limit_are_rejected_before_they_run(two_workers: Server, squash: Model) -> None:
    model = Model(two_workers, "allowed", squash.network, squash.labels)
    code, message = error(model.post(Call(IMAGE, {"Gradcam-Method": "scorecam", "Gradcam-Smooth": "true"})), 422)
    assert code == "too_many_passes"
    assert "must be at most 513, got 3078" in message
