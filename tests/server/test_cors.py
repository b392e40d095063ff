"""Web pages of another origin: what a browser asks before it sends options as headers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import torchvision

from tests.support import http_client, oracles
from tests.support.encoding import encoded
from tests.support.served import Call, Model, sample
from tools.server.cors import cors_properties
from tools.server.port_check import free_port
from tools.server.server import Server

ORIGIN, OTHER = "https://app.example:8443", "https://other.example"
SENT = ("content-type", "authorization", "gradcam-targets", "gradcam-topk")


@pytest.fixture(scope="module")
def model(squash_archive: Path) -> Iterator[Model]:
    """A model on a server of its own, with CORS."""
    network = oracles.seeded(torchvision.models.resnet18())
    with Server([squash_archive], free_port(), settings=cors_properties(ORIGIN)) as server:
        yield Model(server, "squash", network, ())


def preflight(model: Model, origin: str) -> requests.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": ",".join(SENT),
    }
    return http_client.request("OPTIONS", f"{model.server.inference_url}/predictions/{model.name}", headers=headers)


def listed(response: requests.Response, name: str) -> set[str]:
    return {entry.strip().lower() for entry in response.headers.get(name, "").split(",")}


def test_the_preflight_allows_options_as_headers(model: Model) -> None:
    response = preflight(model, ORIGIN)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert listed(response, "Access-Control-Allow-Headers") >= set(SENT)
    assert "post" in listed(response, "Access-Control-Allow-Methods")


def test_the_response_may_be_read_by_this_origin_only(model: Model) -> None:
    image = encoded(sample(71), "JPEG")
    own = model.post(Call(image, {"Origin": ORIGIN, "Gradcam-Topk": "2"}))
    assert own.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert len(own.json()["predictions"]) == 2
    for response in (preflight(model, OTHER), model.post(Call(image, {"Origin": OTHER})), model.post(Call(image))):
        assert response.headers.get("Access-Control-Allow-Origin") not in {OTHER, "*"}


def test_errors_may_be_read_as_well(model: Model) -> None:
    response = model.post(Call(b"no image", {"Origin": ORIGIN}))
    assert response.status_code == 400
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
