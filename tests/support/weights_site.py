"""An HTTP server that publishes weights, on this machine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """A server on this machine: its files, and the requests that it received."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    requested: list[str] = field(default_factory=list)
    respond: Callable[[BaseHTTPRequestHandler], None] | None = None
    """Replaces the usual response."""

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/models/{name}"

    def publish(self, data: bytes, *, hashed: bytes | None = None) -> str:
        """Serve a file under a name with its hash (or that of `hashed`); return its URL."""
        name = f"resnet18-{hashlib.sha256(data if hashed is None else hashed).hexdigest()[:8]}.pth"
        self.files[f"/models/{name}"] = data
        return self.url(name)


@contextmanager
def running_site() -> Iterator[Site]:
    """Run the server for the block."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.requested.append(self.path)
            if site.respond is not None:
                site.respond(self)
            elif self.path not in site.files:
                self.send_error(404)
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(site.files[self.path])))
                self.end_headers()
                self.wfile.write(site.files[self.path])

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        server.shutdown()
        thread.join()
