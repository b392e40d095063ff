"""Clients send in a loop, end with the block, and report the error of any of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count

import pytest

from tools.load import closed_loop
from tools.load.closed_loop import ClosedLoop
from tools.load.connection import Exchange
from tools.load.request import TestRequest


class FakeConnection:
    """Answers with the request's body after a millisecond."""

    def __init__(self, url: str) -> None: ...

    def __enter__(self) -> FakeConnection:
        return self

    def __exit__(self, *_: object) -> None: ...

    def post(self, request: TestRequest) -> Exchange:
        time.sleep(0.001)
        return Exchange(0.0, 1.0, 200, request.body)


class Loop(ClosedLoop[str]):
    def order(self, client: int) -> Iterator[int]:
        return (number % 2 for number in count(client))

    def judge(self, index: int, exchange: Exchange) -> str:
        text = exchange.body.decode()
        if text == "bad":
            raise ValueError("bad answer")
        return f"{index} {text}"


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed_loop, "Connection", FakeConnection)


def test_clients_send_until_the_block_ends() -> None:
    with Loop("http://server", [TestRequest(b"a"), TestRequest(b"b")], clients=3) as loop:
        loop.wait(0.2)
    results = list(loop.results)

    assert len(results) > 20
    assert set(results) == {"0 a", "1 b"}
    assert not any(client.is_alive() for client in loop._clients)


def test_an_error_ends_all_clients_and_is_raised() -> None:
    with (
        pytest.raises(ValueError, match="bad answer"),
        Loop("http://server", [TestRequest(b"a"), TestRequest(b"bad")], clients=2) as loop,
    ):
        loop.wait(10_000)  # far beyond the test's own time limit
