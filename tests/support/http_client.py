"""HTTP requests to servers on this machine, without the proxies of the environment."""

from __future__ import annotations

from typing import Any

import requests

from tools.sessions import loopback_session

SECONDS = 60


def request(method: str, url: str, *, timeout: float = SECONDS, **parts: Any) -> requests.Response:
    """Send one request on its own connection; `parts` are those of `requests.request`."""
    with loopback_session() as session:
        return session.request(method, url, timeout=timeout, **parts)


def get(url: str, **parts: Any) -> requests.Response:
    """Send a GET request on its own connection."""
    return request("GET", url, **parts)


def post(url: str, **parts: Any) -> requests.Response:
    """Send a POST request on its own connection."""
    return request("POST", url, **parts)
