"""A real HTTP server that answers as the contract says, for tests of the client."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CAT = {"index": 281, "label": "tabby", "probability": 0.6157}
CUP = {"index": 967, "label": "espresso", "probability": 0.0249}
DOG = {"index": 207, "label": "golden retriever", "probability": 0.0004}
UNDECODABLE = {"error": {"code": "undecodable_image", "message": "cannot decode; send an intact JPEG"}}


def explained(prediction: dict[str, Any], overlay: bytes, **changes: Any) -> dict[str, Any]:
    encoded = base64.b64encode(overlay).decode()
    return {
        **prediction,
        "evidence": True,
        "heatmap": [[0.0, 1.0]],
        "peak": [412, 130],
        "overlay": f"data:image/jpeg;base64,{encoded}",
        **changes,
    }


def answer(*explanations: dict[str, Any], predictions: tuple[dict[str, Any], ...] = (CAT, CUP)) -> dict[str, Any]:
    return {
        "predictions": list(predictions),
        "explanations": list(explanations),
        "method": "gradcam",
        "layer": "layer4.1.conv2",
        "image": {"width": 451, "height": 300, "region": [0, 0, 451, 300]},
    }


@dataclass
class Request:
    """A request that arrived: path, headers, and the bytes of the form's fields."""

    path: str
    accept: str
    authorization: str | None
    form: dict[str, bytes]


Reply = tuple[int, Any]


@dataclass
class FakeServer:
    """A server on a free port; tests replace `reply`, which maps a request to a status and JSON."""

    url: str
    requests: list[Request] = field(default_factory=list)
    reply: Callable[[Request], Reply] = lambda request: (200, answer(explained(CAT, b"overlay")))

    description: dict[str, Any] = field(default_factory=dict)
    """The model's description, which a GET of anything returns as the management API does."""

    def forms(self) -> list[dict[str, bytes]]:
        return [request.form for request in self.requests]


def read_form(content_type: str, body: bytes) -> dict[str, bytes]:
    message = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    form = {}
    for part in message.walk():
        if not part.is_multipart():
            payload = part.get_payload(decode=True)
            assert isinstance(payload, bytes)
            form[str(part.get_param("name", header="Content-Disposition"))] = payload
    return form


@contextmanager
def fake_server() -> Iterator[FakeServer]:
    """Run a fake server for the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            form = read_form(self.headers["Content-Type"], body)
            request = Request(self.path, self.headers["Accept"], self.headers["Authorization"], form)
            state.requests.append(request)
            self._send(*state.reply(request))

        def do_GET(self) -> None:
            self._send(200, [{"customizedMetadata": state.description}])

        def _send(self, status: int, content: Any) -> None:
            encoded = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, *args: object) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state = FakeServer(f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        http.shutdown()
        thread.join()
