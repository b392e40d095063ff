"""A stand-in for TorchServe behind the proxy: it records requests and answers as tests say."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """A request as it arrived, with header names in lower case, and the client's port of its connection."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass(frozen=True)
class Reply:
    """A response; `drop` closes the connection without one."""

    status: int = 200
    body: bytes = b"{}"
    drop: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    """Besides content type and length."""

    @classmethod
    def json(cls, document: Any, status: int = 200) -> Reply:
        """Return JSON as TorchServe writes it: indented, in UTF-8."""
        return cls(status, json.dumps(document, indent=2, ensure_ascii=False).encode())


@dataclass
class FakeTorchServe:
    """One of TorchServe's HTTP APIs on a free port; tests replace `reply`."""

    port: int
    received: list[Received] = field(default_factory=list)
    reply: Callable[[Received], Reply] = lambda request: Reply(body=request.body)


@contextmanager
def fake_torchserve() -> Iterator[FakeTorchServe]:
    """Run a fake API for the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Received(self.command, self.path, headers, body, self.client_address[1])
            api.received.append(request)
            reply = api.reply(request)
            if reply.drop:
                self.close_connection = True
                return
            self.send_response(reply.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply.body)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                # A test may stop its proxy before the answer arrives.
                with suppress(ConnectionError):
                    self.wfile.write(reply.body)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815

        def log_message(self, *args: object) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        api = FakeTorchServe(http.server_port)
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield api
        http.shutdown()
        thread.join()


def described(*workers: str, version: str = "1.0") -> Reply:
    """Return the management API's description of a model whose workers have these states."""
    states = [{"id": str(9000 + number), "status": status} for number, status in enumerate(workers)]
    return Reply.json([{"modelName": "m", "modelVersion": version, "modelUrl": "secret.mar", "workers": states}])


NOT_FOUND = Reply.json({"code": 404, "type": "ModelNotFoundException", "message": "Model not found: other"}, 404)
