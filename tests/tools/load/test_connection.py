"""A connection stays open between requests, reconnects, and reports failures by their kind."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest

from tools.load.connection import BROKEN, NO_ANSWER, NOT_CONNECTED, Connection, failure
from tools.load.request import TestRequest
from tools.server.port_check import free_port


class Echo(BaseHTTPRequestHandler):
    """Answers with the path, a header, the body, and the client's port; ends the connection if that is requested."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b"hang":
            self.connection.recv(1)  # until the client closes the connection
        reply = f"{self.path} {self.headers['Gradcam-Targets']} {body.decode()} {self.client_address[1]}".encode()
        self.send_response(200 if body != b"reject" else 400)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client timed out
            self.wfile.write(reply)
        self.close_connection = body == b"drop"

    def log_message(self, *_: object) -> None:
        """Keep the terminal clean."""


CLOSED = Event()


class Server(ThreadingHTTPServer):
    """Tells when a connection is closed."""

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        CLOSED.set()


@pytest.fixture
def url() -> Iterator[str]:
    CLOSED.clear()
    with Server(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads, server.block_on_close = True, False
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/predictions/mine"
        server.shutdown()


def test_requests_share_a_connection(url: str) -> None:
    with Connection(url) as connection:
        first = connection.post(TestRequest(b"a", {"Gradcam-Targets": "7"}))
        second = connection.post(TestRequest(b"reject", {"Gradcam-Targets": "8"}))

    path, targets, body, port = first.body.decode().split()
    assert (first.status, path, targets, body) == (200, "/predictions/mine", "7", "a")
    assert (second.status, second.body.decode().split()[3]) == (400, port)
    assert first.sent <= first.ended <= second.sent
    assert first.failure == second.failure == ""


def test_reconnects_where_the_server_closed_the_connection(url: str) -> None:
    with Connection(url) as connection:
        connection.post(TestRequest(b"drop"))
        assert CLOSED.wait(60)
        assert connection.post(TestRequest(b"a")).status == 200


def test_failures(url: str) -> None:
    with Connection(url, timeout=0.2) as connection:
        assert connection.post(TestRequest(b"hang")).failure == NO_ANSWER
        assert connection.post(TestRequest(b"a")).status == 200
    with Connection(f"http://127.0.0.1:{free_port()}/") as connection:
        assert connection.post(TestRequest(b"a")).failure == NOT_CONNECTED
    assert failure(ConnectionResetError()) == failure(http.client.RemoteDisconnected("")) == BROKEN


def test_connection_that_ends_during_a_request_is_broken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def end_first_connection() -> None:
            listener.accept()[0].close()

        Thread(target=end_first_connection, daemon=True).start()
        with Connection(f"http://127.0.0.1:{listener.getsockname()[1]}/") as connection:
            assert connection.post(TestRequest(b"a")).failure == BROKEN
