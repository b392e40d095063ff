"""A client of the page's server."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from starlette.testclient import TestClient

from tests.support.lens_server import application

RESPONSE = b'{"predictions":[]}'


@pytest.fixture
def requests() -> list[httpx.Request]:
    """The requests that TorchServe received from `client`."""
    return []


@pytest.fixture
def client(requests: list[httpx.Request]) -> Iterator[TestClient]:
    """Its TorchServe accepts every request."""

    def respond(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, content=RESPONSE, headers={"content-type": "application/json", "x-request-id": "1"})

    with TestClient(application(respond, inference_token="secret-i", management_token="secret-m")) as client:
        yield client
