"""Order of pipelined answers, the end of connections, and the graceful stop."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from tests.proxy.conftest import Proxied
from tests.support.fake_torchserve import Received, Reply, fake_torchserve
from tests.support.proxy import SECONDS, proxy, received

PIPELINED = 20


def request(body: str, version: str = "1.1", *headers: str) -> bytes:
    lines = [f"POST /predictions/m HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + f"\r\n\r\n{body}").encode()


def test_pipelined_answers_come_in_order(proxied: Proxied) -> None:
    bodies = [f"body {number:02}" for number in range(PIPELINED)]
    *first, last = bodies
    answers = proxied.proxy.exchange(b"".join(map(request, first)) + request(last, "1.1", "Connection: close"))
    assert re.findall(r"body \d+", answers.decode()) == bodies
    # TorchServe never sees two requests on one connection.
    assert len({received.connection for received in proxied.inference.received}) == PIPELINED


def test_pipelined_request_waits_for_the_answer_before_it(proxied: Proxied) -> None:
    release = threading.Event()

    def reply(request: Received) -> Reply:
        if request.body == b"slow":
            assert release.wait(SECONDS)
        return Reply(body=request.body)

    proxied.inference.reply = reply
    with proxied.proxy.connect() as connection:
        connection.sendall(request("slow") + request("fast", "1.1", "Connection: close"))
        release.set()
        answers = received(connection)
    assert re.findall(rb"slow|fast", answers) == [b"slow", b"fast"]


@pytest.mark.parametrize(("version", "headers"), [("1.0", ()), ("1.1", ("Connection: close",))])
def test_connection_is_closed_when_the_client_asks(proxied: Proxied, version: str, headers: tuple[str, ...]) -> None:
    # `exchange` returns only when the connection is closed.
    answer = proxied.proxy.exchange(request("hello", version, *headers))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nhello")


def test_connection_is_kept_otherwise(proxied: Proxied) -> None:
    with proxied.proxy.connect() as connection:
        for body in ("one", "two"):
            connection.sendall(request(body))
            answer = b""
            while not answer.endswith(body.encode()):
                answer += connection.recv(4096)


def test_graceful_stop_completes_accepted_requests(tmp_path: Path) -> None:
    arrived, release = threading.Event(), threading.Event()

    def reply(request: Received) -> Reply:
        arrived.set()
        assert release.wait(SECONDS)
        return Reply(body=request.body)

    with fake_torchserve() as inference, proxy(tmp_path, inference.port, 9) as front, front.connect() as connection:
        inference.reply = reply
        connection.sendall(request("accepted"))
        assert arrived.wait(SECONDS)
        front.stop_gracefully()
        release.set()
        assert received(connection).endswith(b"accepted")
        assert front.process.wait(SECONDS) == 0
