"""One HTTP connection to a server, kept open between requests."""

from __future__ import annotations

import http.client
import select
import time
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

from tools.load.request import TestRequest

ANSWER_SECONDS = 120.0  # longer than TorchServe waits before it kills a worker

BROKEN = "connection broken"
NOT_CONNECTED = "connection refused"
NO_ANSWER = "no answer"


@dataclass(frozen=True)
class Exchange:
    """One request's timing and response; times are from the clock `time.monotonic`.

    Attributes:
        sent: when the request was sent.
        ended: when its response or failure was complete.
        status: the HTTP status; 0 without a response.
        body: the response's body.
        failure: what happened to the connection; empty with a response.
    """

    sent: float
    ended: float
    status: int = 0
    body: bytes = b""
    failure: str = ""

    @property
    def seconds(self) -> float:
        """The time from sending the request to its end."""
        return self.ended - self.sent


class Connection:
    """A client that sends one request after another to one URL; without proxies."""

    def __init__(self, url: str, timeout: float = ANSWER_SECONDS) -> None:
        """Describe the connection; the first request opens it.

        Args:
            url: where requests go, such as `http://127.0.0.1:8080/predictions/resnet18`.
            timeout: seconds to wait for each part of a response.
        """
        parts = urlsplit(url)
        self._path = parts.path
        self._http = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)

    def __enter__(self) -> Connection:
        """Return the connection."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def post(self, request: TestRequest) -> Exchange:
        """Send a request and wait for the response; reconnects where the server has closed the connection."""
        self._close_if_dropped()
        sent = time.monotonic()
        try:
            self._http.request("POST", self._path, request.body, dict(request.headers))
            with self._http.getresponse() as response:
                body = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Exchange(sent, time.monotonic(), failure=failure(error))
        return Exchange(sent, time.monotonic(), response.status, body)

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        self._http.close()

    def _close_if_dropped(self) -> None:
        # Between requests, only the end of the connection makes its socket readable.
        if self._http.sock is not None and select.select([self._http.sock], [], [], 0)[0]:
            self.close()


def failure(error: Exception) -> str:
    """Return what happened to a connection."""
    if isinstance(error, TimeoutError):
        return NO_ANSWER
    return NOT_CONNECTED if isinstance(error, ConnectionRefusedError) else BROKEN
