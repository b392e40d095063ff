"""What the page's server passes on to TorchServe and back, and what it rejects."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import httpx
import pytest
from starlette.testclient import TestClient

from tests.support.lens_server import application, error_code, failing, predict

RESPONSE = b'{"predictions":[]}'

# ----------------------------------------------------------------------------- passing on


def test_an_image_is_passed_on_unchanged(client: TestClient, requests: list[httpx.Request]) -> None:
    response = client.post(
        "/predictions/m",
        content=b"\x00image\xff",
        headers={"Content-Type": "image/x-own", "Gradcam-Targets": "1", "Accept": "image/png"},
    )

    assert (response.status_code, response.content) == (200, RESPONSE)
    (request,) = requests
    assert (request.method, str(request.url)) == ("POST", "http://127.0.0.1:8080/predictions/m")
    assert request.content == b"\x00image\xff"
    assert request.headers["content-type"] == "image/x-own"
    assert request.headers["gradcam-targets"] == "1"
    assert request.headers["accept"] == "image/png"


def test_headers_that_control_torchserve_are_not_passed_on(client: TestClient, requests: list[httpx.Request]) -> None:
    client.post("/predictions/m", content=b"p", headers={"describe": "True", "explain": "True", "Cookie": "c=1"})

    assert {"describe", "explain", "cookie"}.isdisjoint(requests[0].headers)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/predictions/a%3Fb%23", "/predictions/a%3Fb%23"), ("/api/models/a%3Fb", "/models/a%3Fb?customized=true")],
)
def test_a_models_name_stays_one_path_segment(
    client: TestClient, requests: list[httpx.Request], path: str, expected: str
) -> None:
    client.request("POST" if "predictions" in path else "GET", path)

    assert requests[0].url.raw_path.decode() == expected


def test_an_error_of_torchserve_is_passed_on_unchanged() -> None:
    document = {"error": {"code": "undecodable_image", "message": "not an image"}}

    response = predict(lambda request: httpx.Response(400, json=document))

    assert (response.status_code, response.json()) == (400, document)


def test_a_response_is_never_a_page() -> None:
    response = predict(lambda request: httpx.Response(200, text="<script>", headers={"content-type": "text/html"}))

    assert response.headers["content-type"].startswith("text/plain")
    assert response.headers["x-content-type-options"] == "nosniff"


def test_an_overlay_keeps_its_content_type() -> None:
    response = predict(lambda request: httpx.Response(200, content=b"png", headers={"content-type": "image/png"}))

    assert (response.headers["content-type"], response.content) == ("image/png", b"png")


# ----------------------------------------------------------------------------- rejected requests


def test_a_body_beyond_the_limit_is_rejected(client: TestClient, requests: list[httpx.Request]) -> None:
    response = client.post("/predictions/m", content=iter([b"x" * 600, b"x" * 600]))

    assert error_code(response, 413) == "body_too_large"
    assert response.headers["connection"] == "close"
    assert requests == []


def test_a_content_length_beyond_the_limit_is_rejected_unread(client: TestClient) -> None:
    response = client.post("/predictions/m", content=b"x", headers={"Content-Length": "1001"})

    assert error_code(response, 413) == "body_too_large"


def test_a_body_at_the_limit_is_accepted(client: TestClient, requests: list[httpx.Request]) -> None:
    assert client.post("/predictions/m", content=b"x" * 1000).status_code == 200
    assert len(requests[0].content) == 1000


def test_an_upload_that_is_too_slow_is_rejected() -> None:
    sent: list[dict[str, object]] = []

    async def slow() -> dict[str, object]:
        await anyio.sleep(0.05)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    async def post() -> None:
        app = application(lambda request: httpx.Response(200), upload_seconds=0.2)
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/predictions/m",
            "headers": [],
            "query_string": b"",
            "app": app,
        }
        async with app.router.lifespan_context(app):
            await app(scope, slow, send)  # type: ignore[arg-type]

    anyio.run(post)

    assert sent[0]["status"] == 408
    assert json.loads(bytes(sent[1]["body"]))["error"]["code"] == "upload_timeout"  # type: ignore[call-overload]


@pytest.mark.parametrize(("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200)])
def test_a_page_of_another_site_is_rejected(client: TestClient, site: str, status: int) -> None:
    assert client.post("/predictions/m", content=b"p", headers={"Sec-Fetch-Site": site}).status_code == status


@pytest.mark.parametrize(
    ("path", "status"), [("/nothing", 404), ("/samples/settings.py", 404), ("/predictions/m", 404)]
)
def test_an_unknown_path_is_rejected(client: TestClient, path: str, status: int) -> None:
    assert error_code(client.get(path), status) == "http_error"


# ----------------------------------------------------------------------------- models, samples, and health


def test_the_overview_without_management_api(tmp_path: Path) -> None:
    app = application(failing(httpx.ConnectError), management="", models="a, b", samples=str(tmp_path))
    with TestClient(app) as client:
        assert client.get("/api/overview").json() == {"models": ["a", "b"], "samples": [], "max_body_bytes": 1000}
        assert client.get("/api/models/a").json() == {}


def test_a_sample_is_an_image(client: TestClient) -> None:
    assert client.get("/samples/chelsea.jpg").headers["content-type"] == "image/jpeg"


def test_health_does_not_depend_on_torchserve() -> None:
    with TestClient(application(failing(httpx.ConnectError))) as client:
        assert client.get("/health").status_code == 200
        assert error_code(client.get("/ping"), 502) == "server_unreachable"
