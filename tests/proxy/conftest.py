"""The image's HAProxy in front of a fake TorchServe, where Debian's haproxy is installed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.fake_torchserve import NOT_FOUND, FakeTorchServe, Received, Reply, described, fake_torchserve
from tests.support.proxy import HAPROXY, MODEL, Proxy, proxy
from tools.server.processes import wait_until


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and HAPROXY is None:
            item.add_marker(pytest.mark.skip(reason="needs haproxy; make clients-test installs Debian's"))


@dataclass(frozen=True)
class Proxied:
    """A proxy and the two APIs behind it."""

    proxy: Proxy
    inference: FakeTorchServe
    management: FakeTorchServe


def describe(request: Received) -> Reply:
    """Answer as the management API: `m` has two ready workers, `loading` has none, other models do not exist."""
    match request.method, request.target:
        case "GET", ("/models/m" | "/models/m/1.0"):
            return described("READY", "READY")
        case "GET", "/models/m/2.0":
            return described("READY", version="2.0")
        case "GET", "/models/loading":
            return described("LOADING", "LOADING", version="3.0")
    return NOT_FOUND


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    with fake_torchserve() as inference, fake_torchserve() as management:
        management.reply = describe
        with proxy(tmp_path_factory.mktemp("proxy"), inference.port, management.port) as front:
            # The state of a server is known after its first check.
            assert wait_until(lambda: f"/models/{MODEL}" in [request.target for request in management.received], 30)
            yield Proxied(front, inference, management)


@pytest.fixture
def proxied(running: Proxied) -> Proxied:
    """The proxy; TorchServe behind it echoes each request's body and has received nothing yet."""
    running.inference.reply = lambda request: Reply(body=request.body)
    running.management.reply = describe
    running.inference.received.clear()
    running.management.received.clear()
    return running
