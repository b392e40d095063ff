"""Requests to TorchServe and to the proxy in front of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection, HTTPException
from typing import Any

# As HAProxy's `timeout server`: waiting in TorchServe's queue, plus its responseTimeout.
MAX_SECONDS = 180.0


class Unavailable(Exception):
    """No server accepts the connection, or it closed the connection without a response."""


@dataclass(frozen=True)
class Response:
    """An HTTP response."""

    status: int
    headers: Message
    """By name in any case."""
    body: bytes

    @property
    def document(self) -> Any:
        """The body's JSON; None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True)
class HttpApi:
    """A server on this machine."""

    host: str
    port: int

    def request(
        self,
        method: str,
        path: str,
        seconds: float | None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request on a connection of its own: TorchServe might close an open one just then.

        Args:
            method: of HTTP.
            path: from the root, quoted.
            seconds: until the client's deadline; None: it has none.
            body: the request's body.
            headers: the request's headers.

        Raises:
            TimeoutError: the response did not arrive in time.
            Unavailable: there is no response.
        """
        connection = HTTPConnection(self.host, self.port, timeout=min(seconds or MAX_SECONDS, MAX_SECONDS))
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Response(response.status, response.headers, response.read())
        except TimeoutError:
            raise
        except (OSError, HTTPException) as error:
            raise Unavailable(
                f"TorchServe sent no response ({type(error).__name__}); send the request again"
            ) from error
        finally:
            connection.close()
