"""Web pages of another origin: what a browser asks before it sends options as headers."""

from __future__ import annotations

import requests

from tests.support import http_client
from tests.support.encoding import encoded
from tests.support.served import ORIGIN, Call, Model, sample

OTHER = "https://other.example"
SENT = ("content-type", "authorization", "gradcam-targets", "gradcam-topk")


def preflight(model: Model, origin: str) -> requests.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": ",".join(SENT),
    }
    return http_client.request("OPTIONS", f"{model.server.inference_url}/predictions/{model.name}", headers=headers)


def listed(response: requests.Response, name: str) -> set[str]:
    return {entry.strip().lower() for entry in response.headers.get(name, "").split(",")}


def test_the_preflight_allows_options_as_headers(squash: Model) -> None:
    response = preflight(squash, ORIGIN)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert listed(response, "Access-Control-Allow-Headers") >= set(SENT)
    assert "post" in listed(response, "Access-Control-Allow-Methods")


def test_the_response_may_be_read_by_this_origin_only(squash: Model) -> None:
    image = encoded(sample(71), "JPEG")
    own = squash.post(Call(image, {"Origin": ORIGIN, "Gradcam-Topk": "2"}))
    assert own.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert len(own.json()["predictions"]) == 2
    for response in (preflight(squash, OTHER), squash.post(Call(image, {"Origin": OTHER})), squash.post(Call(image))):
        assert response.headers.get("Access-Control-Allow-Origin") not in {OTHER, "*"}


def test_errors_may_be_read_as_well(squash: Model) -> None:
    response = squash.post(Call(b"no image", {"Origin": ORIGIN}))
    assert response.status_code == 400
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
