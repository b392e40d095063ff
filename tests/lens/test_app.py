"""The page's server, in front of a TorchServe that says whatever a test wants."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from lens import app
from lens.app import create_app
from lens.settings import Settings, SettingsError

ANSWER = b'{"predictions":[]}'
DESCRIPTION = {"labels": ["cat", "cup"], "methods": ["gradcam"], "layers": ["a.b"], "method": "gradcam", "layer": "a.b"}
Reply = Callable[[httpx.Request], httpx.Response]


def served(reply: Reply, **changes: object) -> Starlette:
    settings = Settings(**{"max_body_bytes": 1000, **changes})  # type: ignore[arg-type]
    return create_app(settings, httpx.MockTransport(reply))


@pytest.fixture
def seen() -> list[httpx.Request]:
    return []


@pytest.fixture
def client(seen: list[httpx.Request]) -> Iterator[TestClient]:
    """In front of a TorchServe that answers everything, and remembers what it was asked."""

    def reply(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=ANSWER, headers={"content-type": "application/json", "x-request-id": "1"})

    with TestClient(served(reply, inference_token="secret-i", management_token="secret-m")) as client:
        yield client


def ask(reply: Reply, **changes: object) -> httpx.Response:
    """Has a picture explained by a TorchServe that replies so."""
    with TestClient(served(reply, **changes)) as client:
        return client.post("/predictions/m", content=b"picture")


def error(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.json().keys() == {"error"}
    assert response.json()["error"].keys() == {"code", "message"}
    return str(response.json()["error"]["code"])


def raising(kind: type[httpx.TransportError]) -> Reply:
    def reply(request: httpx.Request) -> httpx.Response:
        raise kind("no")

    return reply


# ----------------------------------------------------------------------------- passing on


def test_a_picture_is_passed_on_as_it_came(client: TestClient, seen: list[httpx.Request]) -> None:
    response = client.post(
        "/predictions/m",
        content=b"\x00picture\xff",
        headers={"Content-Type": "image/x-own", "Gradcam-Targets": "1", "Accept": "image/png"},
    )

    assert (response.status_code, response.content) == (200, ANSWER)
    (request,) = seen
    assert (request.method, str(request.url)) == ("POST", "http://127.0.0.1:8080/predictions/m")
    assert request.content == b"\x00picture\xff"
    assert request.headers["content-type"] == "image/x-own"
    assert request.headers["gradcam-targets"] == "1"
    assert request.headers["accept"] == "image/png"


def test_what_steers_torchserve_is_not_passed_on(client: TestClient, seen: list[httpx.Request]) -> None:
    client.post("/predictions/m", content=b"p", headers={"describe": "True", "explain": "True", "Cookie": "c=1"})

    assert {"describe", "explain", "cookie"}.isdisjoint(seen[0].headers)


@pytest.mark.parametrize(
    ("path", "asked"),
    [("/predictions/a%3Fb%23", "/predictions/a%3Fb%23"), ("/api/models/a%3Fb", "/models/a%3Fb?customized=true")],
)
def test_a_models_name_stays_a_name(client: TestClient, seen: list[httpx.Request], path: str, asked: str) -> None:
    client.request("POST" if "predictions" in path else "GET", path)

    assert seen[0].url.raw_path.decode() == asked


def test_tokens_go_to_torchserve_only(client: TestClient, seen: list[httpx.Request]) -> None:
    answers = [client.post("/predictions/m", content=b"p"), client.get("/ping"), client.get("/api/models/m")]

    assert [request.headers["authorization"] for request in seen] == [
        "Bearer secret-i",
        "Bearer secret-i",
        "Bearer secret-m",
    ]
    for answer in answers:
        assert "secret" not in answer.text + str(answer.headers)


def test_an_error_of_torchserve_comes_as_it_is() -> None:
    said = {"error": {"code": "undecodable_image", "message": "not a picture"}}

    response = ask(lambda request: httpx.Response(400, json=said))

    assert (response.status_code, response.json()) == (400, said)


def test_an_answer_is_never_a_page() -> None:
    response = ask(lambda request: httpx.Response(200, text="<script>", headers={"content-type": "text/html"}))

    assert response.headers["content-type"].startswith("text/plain")
    assert response.headers["x-content-type-options"] == "nosniff"


def test_an_overlay_keeps_its_type() -> None:
    response = ask(lambda request: httpx.Response(200, content=b"png", headers={"content-type": "image/png"}))

    assert (response.headers["content-type"], response.content) == ("image/png", b"png")


# ----------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (httpx.ConnectError, 502, "server_unreachable"),
        (httpx.RemoteProtocolError, 502, "server_unreachable"),
        (httpx.ConnectTimeout, 504, "server_timeout"),
        (httpx.ReadTimeout, 504, "server_timeout"),
    ],
)
def test_no_torchserve(kind: type[httpx.TransportError], status: int, code: str) -> None:
    assert error(ask(raising(kind)), status) == code


def test_too_large_a_picture(client: TestClient, seen: list[httpx.Request]) -> None:
    response = client.post("/predictions/m", content=iter([b"x" * 600, b"x" * 600]))

    assert error(response, 413) == "body_too_large"
    assert response.headers["connection"] == "close"
    assert seen == []


def test_what_is_declared_too_large_is_not_read(client: TestClient) -> None:
    response = client.post("/predictions/m", content=b"x", headers={"Content-Length": "1001"})

    assert error(response, 413) == "body_too_large"


def test_the_largest_picture(client: TestClient, seen: list[httpx.Request]) -> None:
    assert client.post("/predictions/m", content=b"x" * 1000).status_code == 200
    assert len(seen[0].content) == 1000


def test_too_large_an_answer() -> None:
    assert error(ask(lambda request: httpx.Response(200, content=b"x" * 11), max_answer_bytes=10), 502) == (
        "answer_too_large"
    )
    assert ask(lambda request: httpx.Response(200, content=b"x" * 10), max_answer_bytes=10).status_code == 200


def test_a_picture_that_does_not_arrive(seen: list[httpx.Request]) -> None:
    said: list[dict[str, object]] = []

    async def slow() -> dict[str, object]:
        await anyio.sleep(0.05)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: dict[str, object]) -> None:
        said.append(message)

    async def post() -> None:
        application = served(lambda request: httpx.Response(200), upload_seconds=0.2)
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/predictions/m",
            "headers": [],
            "query_string": b"",
            "app": application,
        }
        async with application.router.lifespan_context(application):
            await application(scope, slow, send)  # type: ignore[arg-type]

    anyio.run(post)

    assert said[0]["status"] == 408
    assert json.loads(bytes(said[1]["body"]))["error"]["code"] == "upload_timeout"  # type: ignore[call-overload]


@pytest.mark.parametrize(("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200)])
def test_another_sites_page_is_refused(client: TestClient, site: str, status: int) -> None:
    assert client.post("/predictions/m", content=b"p", headers={"Sec-Fetch-Site": site}).status_code == status


@pytest.mark.parametrize(
    ("path", "status"), [("/nothing", 404), ("/samples/settings.py", 404), ("/predictions/m", 404)]
)
def test_what_there_is_not(client: TestClient, path: str, status: int) -> None:
    assert error(client.get(path), status) == "http_error"


# ----------------------------------------------------------------------------- models


def test_all_models_are_offered() -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        if "next_page_token" in str(request.url):
            return httpx.Response(200, json={"models": [{"modelName": "c"}]})
        return httpx.Response(200, json={"nextPageToken": "2", "models": [{"modelName": "a"}, {"modelName": "b"}]})

    with TestClient(served(reply)) as client:
        assert client.get("/api/overview").json() == {
            "models": ["a", "b", "c"],
            "samples": ["chelsea.jpg", "coffee.jpg", "rocket.jpg"],
            "max_body_bytes": 1000,
        }


def test_without_management(tmp_path: Path) -> None:
    with TestClient(served(raising(httpx.ConnectError), management="", models="a, b", samples=str(tmp_path))) as client:
        assert client.get("/api/overview").json() == {"models": ["a", "b"], "samples": [], "max_body_bytes": 1000}
        assert client.get("/api/models/a").json() == {}


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ([{"customizedMetadata": {**DESCRIPTION, "weights_sha256": "0"}}], DESCRIPTION),
        ([{"modelName": "another handler's"}], {}),
        ([], {}),
    ],
)
def test_a_model_is_described(versions: list[dict[str, object]], said: dict[str, object]) -> None:
    with TestClient(served(lambda request: httpx.Response(200, json=versions))) as client:
        assert client.get("/api/models/m").json() == said


def test_an_error_of_the_management_api() -> None:
    said = {"code": 404, "type": "ModelNotFoundException", "message": "Model not found: m"}
    with TestClient(served(lambda request: httpx.Response(404, json=said))) as client:
        response = client.get("/api/models/m")
    assert error(response, 404) == "ModelNotFoundException"
    assert response.json()["error"]["message"] == "Model not found: m"


def test_a_management_api_that_is_none() -> None:
    with TestClient(served(lambda request: httpx.Response(200, text="<html>"))) as client:
        assert error(client.get("/api/overview"), 502) == "server_unreachable"


# ----------------------------------------------------------------------------- the page


@pytest.mark.parametrize("path", ["/", "/main.js", "/samples/chelsea.jpg", "/ping", "/health", "/nothing"])
def test_nothing_comes_from_elsewhere(client: TestClient, path: str) -> None:
    policy = dict(part.split(" ", 1) for part in client.get(path).headers["content-security-policy"].split("; "))

    assert policy["default-src"] == "'none'"
    assert set(policy.values()) == {"'none'", "'self'"}


def test_the_page_and_its_files(client: TestClient) -> None:
    assert '<script type="module" src="main.js">' in client.get("/").text
    assert client.get("/main.js").headers["content-type"].startswith(("text/javascript", "application/javascript"))
    assert client.get("/samples/chelsea.jpg").headers["content-type"] == "image/jpeg"


def test_health_says_nothing_of_torchserve() -> None:
    with TestClient(served(raising(httpx.ConnectError))) as client:
        assert client.get("/health").status_code == 200
        assert error(client.get("/ping"), 502) == "server_unreachable"


def test_every_code_is_described() -> None:
    source = Path(app.__file__).read_text(encoding="utf-8")
    for code in ("body_too_large", "upload_timeout", "cross_site", "server_unreachable", "answer_too_large"):
        assert f"{code} " in (app.__doc__ or "")
        assert f'"{code}"' in source


# ----------------------------------------------------------------------------- settings


def test_settings_of_the_environment() -> None:
    settings = Settings.from_environment(
        {"LENS_PORT": "1234", "LENS_ANSWER_SECONDS": "2.5", "LENS_MODELS": "a, b", "HOME": "/root"}
    )

    assert (settings.port, settings.answer_seconds, settings.model_names) == (1234, 2.5, ["a", "b"])
    assert settings.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"LENS_PROT": "1"}, "LENS_PROT is not a setting"),
        ({"LENS_PORT": "web"}, "LENS_PORT must be a number, not 'web'"),
        ({"LENS_MAX_BODY_BYTES": "0"}, "LENS_MAX_BODY_BYTES must be greater than 0"),
        ({"LENS_INFERENCE": "torchserve:8080"}, "LENS_INFERENCE must be http://HOST:PORT"),
        ({"LENS_MANAGEMENT": ""}, "LENS_MODELS must name the models"),
    ],
)
def test_settings_that_are_not_right(environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings.from_environment(environment)
