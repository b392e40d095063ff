"""The page's server in front of a simulated TorchServe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.testclient import TestClient

from lens.app import create_app
from lens.settings import Settings

# What TorchServe responds to a request.
Responder = Callable[[httpx.Request], httpx.Response]


def application(respond: Responder, **changes: object) -> Starlette:
    """Return the application, with a small size limit and with changed settings."""
    settings = Settings(**{"max_body_bytes": 1000, **changes})  # type: ignore[arg-type]
    return create_app(settings, httpx.MockTransport(respond))


def predict(respond: Responder, **changes: object) -> Any:
    """Send an image through the page's server to TorchServe."""
    with TestClient(application(respond, **changes)) as client:
        return client.post("/predictions/m", content=b"image")


def failing(error: type[httpx.TransportError]) -> Responder:
    """Return a TorchServe to which every connection fails."""

    def respond(request: httpx.Request) -> httpx.Response:
        raise error("no")

    return respond


def error_code(response: Any, status: int) -> str:
    """Check that a response is an error with this status, and return its code."""
    assert response.status_code == status, response.text
    assert response.json().keys() == {"error"}
    assert response.json()["error"].keys() == {"code", "message"}
    return str(response.json()["error"]["code"])
