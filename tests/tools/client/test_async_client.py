"""The client for asyncio against a real HTTP server: as the other one, whose tests say what it does."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.support.fake_server import CAT, UNDECODABLE, FakeServer, Reply, Request, answer, explained
from tools.client import async_client
from tools.client.answers import Answer
from tools.client.async_client import AsyncClient
from tools.client.client import Client
from tools.client.endpoint import OptionValue
from tools.client.errors import (
    ClientError,
    ImageError,
    ImageRejected,
    InvalidResponse,
    ModelNotFound,
    OptionRejected,
    ServerUnavailable,
)
from tools.sessions import BACKOFF_SECONDS


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_client, "BACKOFF_SECONDS", (0.0,) * len(BACKOFF_SECONDS))


def explain(url: str, image: bytes = b"image", **options: OptionValue) -> Answer:
    async def run() -> Answer:
        async with AsyncClient(url, "my model/2", version="1.0", headers={"Authorization": "Bearer x"}) as client:
            return await client.explain(image, **options)

    return asyncio.run(run())


def test_sends_and_returns_the_same_as_the_other_client(server: FakeServer) -> None:
    server.reply = lambda request: (200, answer(explained(CAT, b"overlay", strength=2.5)))
    options: dict[str, OptionValue] = {
        "targets": [281, "crane, bird", "Ägyptische 猫"],
        "overlay": "jpeg",
        "topk": None,
    }
    headers = {"Authorization": "Bearer x"}
    with Client(server.url, "my model/2", version="1.0", headers=headers) as client:
        expected = client.explain(b"\xff\r\n--", **options)
    assert explain(server.url, b"\xff\r\n--", **options) == expected
    first, second = server.requests
    assert first == second


@pytest.mark.parametrize(
    ("status", "body", "error", "message"),
    [
        (400, UNDECODABLE, ImageRejected, "^undecodable_image: "),
        (422, {"error": {"code": "unknown_class", "message": "no"}}, OptionRejected, "^unknown_class: no$"),
        (502, b"<html>", ImageError, "^HTTP 502 Bad Gateway$"),
        (404, {"type": "NotFound", "message": "no"}, ModelNotFound, "has no model 'my model/2/1.0'"),
        (200, b"no JSON", InvalidResponse, "not that of a Grad-CAM model: no JSON"),
    ],
)
def test_failures(
    server: FakeServer, status: int, body: bytes | dict[str, object], error: type[ClientError], message: str
) -> None:
    server.reply = lambda request: (status, body)
    with pytest.raises(error, match=message) as raised:
        explain(server.url)
    assert type(raised.value) is error
    assert len(server.requests) == 1


def test_no_server(closed_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(ServerUnavailable, match=f"^No server answers at {closed_url}$"):
        explain(closed_url)


@pytest.mark.parametrize(("failures", "requests"), [(3, 4), (100, 7)])
def test_temporary_errors_are_retried(server: FakeServer, failures: int, requests: int) -> None:
    overloaded = 503, {"code": 503, "type": "ServiceUnavailableException", "message": "Full."}
    server.reply = lambda request: overloaded if len(server.requests) <= failures else (200, answer())
    if failures < 6:
        assert explain(server.url).predictions
    else:
        with pytest.raises(ImageError, match=r"^ServiceUnavailableException: Full\.$"):
            explain(server.url)
    assert len(server.requests) == requests


@pytest.mark.parametrize("breaks", [1, 2])
def test_a_broken_connection_is_retried_once(server: FakeServer, breaks: int) -> None:
    def reply(request: Request) -> Reply:
        if len(server.requests) <= breaks:
            raise ConnectionAbortedError
        return 200, answer()

    server.reply = reply
    if breaks == 1:
        assert explain(server.url).predictions
    else:
        with pytest.raises(ImageError, match=r"^no answer from the server: it closed the connection$"):
            explain(server.url)
    assert len(server.requests) == 2


def test_requests_overlap_up_to_the_limit(server: FakeServer) -> None:
    lock, both = threading.Lock(), threading.Barrier(2)
    running, most = 0, 0

    def reply(request: Request) -> Reply:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait(timeout=10)  # each waits for another one
        with lock:
            running -= 1
        return 200, answer()

    server.reply = reply

    async def run() -> list[Answer]:
        async with AsyncClient(server.url, connections=2) as client:
            return await asyncio.gather(*(client.explain(b"image") for _ in range(6)))

    assert len(asyncio.run(run())) == 6
    assert most == 2
