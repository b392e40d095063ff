"""A model of a running server, with requests whose answers are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from tools.load.checking import RecordedAnswer, record_baseline
from tools.load.connection import Connection
from tools.load.request import TestRequest
from tools.load.synthetic import make_requests
from tools.load.traffic import CLIENTS, Outcome, Traffic, send
from tools.server.server import Server

VALID_REQUESTS, INVALID_REQUESTS = 36, 4


@dataclass(frozen=True)
class LoadTarget:
    """A model of a running server, and requests with their answers while the server is idle."""

    server: Server
    model: str
    requests: Sequence[TestRequest]
    baseline: Sequence[RecordedAnswer]

    @property
    def url(self) -> str:
        """The address that takes the requests."""
        return endpoint(self.server, self.model)

    def worker(self) -> psutil.Process:
        """Return the model's only worker."""
        (pid,) = self.server.worker_pids(self.model)
        return psutil.Process(pid)

    def traffic(self, clients: int = CLIENTS) -> Traffic:
        """Return clients that send all requests."""
        return Traffic(self.url, self.requests, self.baseline, clients)

    def send_one(self) -> Outcome:
        """Send the first request."""
        with Connection(self.url) as connection:
            return send(connection, self.requests[0], self.baseline[0])


def load_target(server: Server, model: str, valid: int = VALID_REQUESTS, invalid: int = INVALID_REQUESTS) -> LoadTarget:
    """Send every request once to an idle server, and return the target with the answers."""
    requests = make_requests(valid, invalid)
    return LoadTarget(server, model, requests, record_baseline(endpoint(server, model), requests))


def endpoint(server: Server, model: str) -> str:
    """Return the address that takes images."""
    return f"{server.inference_url}/predictions/{model}"
