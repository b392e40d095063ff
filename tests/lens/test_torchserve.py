"""The client of TorchServe: tokens, models, descriptions, and failures."""

from __future__ import annotations

import httpx
import pytest
from starlette.testclient import TestClient

from tests.support.lens_server import application, error_code, failing, predict

DESCRIPTION = {
    "labels": ["cat", "cup"],
    "methods": ["gradcam"],
    "layers": ["a.b"],
    "method": "gradcam",
    "layer": "a.b",
    "weights_sha256": "0",
    "engine": "eager",
    "effective_precision": "float32",
}


def test_only_torchserve_receives_the_tokens(client: TestClient, requests: list[httpx.Request]) -> None:
    responses = [client.post("/predictions/m", content=b"p"), client.get("/ping"), client.get("/api/models/m")]

    assert [request.headers["authorization"] for request in requests] == [
        "Bearer secret-i",
        "Bearer secret-i",
        "Bearer secret-m",
    ]
    for response in responses:
        assert "secret" not in response.text + str(response.headers)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (httpx.ConnectError, 502, "server_unreachable"),
        (httpx.RemoteProtocolError, 502, "server_unreachable"),
        (httpx.ConnectTimeout, 504, "server_timeout"),
        (httpx.ReadTimeout, 504, "server_timeout"),
    ],
)
def test_a_failed_connection(error: type[httpx.TransportError], status: int, code: str) -> None:
    assert error_code(predict(failing(error)), status) == code


def test_a_response_beyond_the_limit() -> None:
    too_large = predict(lambda request: httpx.Response(200, content=b"x" * 11), max_answer_bytes=10)
    assert error_code(too_large, 502) == "answer_too_large"
    assert predict(lambda request: httpx.Response(200, content=b"x" * 10), max_answer_bytes=10).status_code == 200


def test_all_pages_of_models_are_listed() -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        if "next_page_token" in str(request.url):
            return httpx.Response(200, json={"models": [{"modelName": "c"}]})
        return httpx.Response(200, json={"nextPageToken": "2", "models": [{"modelName": "a"}, {"modelName": "b"}]})

    with TestClient(application(respond)) as client:
        assert client.get("/api/overview").json() == {
            "models": ["a", "b", "c"],
            "samples": ["chelsea.jpg", "coffee.jpg", "rocket.jpg"],
            "max_body_bytes": 1000,
        }


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ([{"customizedMetadata": {**DESCRIPTION, "max_targets": 100}}], DESCRIPTION),
        ([{"modelName": "another handler's"}], {}),
        ([], {}),
    ],
)
def test_the_description_of_a_model(versions: list[dict[str, object]], expected: dict[str, object]) -> None:
    with TestClient(application(lambda request: httpx.Response(200, json=versions))) as client:
        assert client.get("/api/models/m").json() == expected


def test_an_error_of_the_management_api() -> None:
    document = {"code": 404, "type": "ModelNotFoundException", "message": "Model not found: m"}
    with TestClient(application(lambda request: httpx.Response(404, json=document))) as client:
        response = client.get("/api/models/m")
    assert error_code(response, 404) == "ModelNotFoundException"
    assert response.json()["error"]["message"] == "Model not found: m"


def test_a_management_api_that_does_not_respond_with_json() -> None:
    with TestClient(application(lambda request: httpx.Response(200, text="<html>"))) as client:
        assert error_code(client.get("/api/overview"), 502) == "server_unreachable"
