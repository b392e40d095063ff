"""Metadata and readiness at the paths that V1's and V2's clients ask, and nothing else of the management API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ts

from gradcam.protocols.kserve_tensors import OUTPUTS
from tests.proxy.conftest import Proxied
from tests.support import http_client
from tests.support.fake_torchserve import FakeTorchServe, Reply
from tests.support.proxy import MODEL, proxy
from tools.server.processes import wait_until


def get(proxied: Proxied, path: str) -> tuple[int, Any]:
    response = http_client.get(f"{proxied.proxy.url}{path}")
    assert response.headers["content-type"] == "application/json"
    return response.status_code, response.json()


@pytest.mark.parametrize("path", ["/v1/models/m", "/v2/models/m/ready", "/v2/models/m/versions/2.0/ready"])
def test_model_with_a_ready_worker_is_ready(proxied: Proxied, path: str) -> None:
    assert get(proxied, path) == (200, {"name": "m", "ready": True})


def test_model_without_a_ready_worker_is_not_ready(proxied: Proxied) -> None:
    assert get(proxied, "/v1/models/loading") == (503, {"name": "loading", "ready": False})
    error = {"error": "loading has no ready worker", "code": "not_ready"}
    assert get(proxied, "/v2/models/loading/ready") == (503, error)


def test_unknown_model_is_not_found(proxied: Proxied) -> None:
    message = {"code": "unknown_model", "message": "Unknown model other"}
    assert get(proxied, "/v1/models/other") == (404, {"error": message})
    for path in ("other", "other/ready", "m/versions/7", "m/versions/7/ready"):
        status, answer = get(proxied, f"/v2/models/{path}")
        assert (status, answer["code"]) == (404, "unknown_model")
        assert answer["error"].startswith(f"Unknown model {path.split('/')[0]}")


@pytest.mark.parametrize(
    ("path", "name", "version"),
    [("m", "m", "1.0"), ("loading", "loading", "3.0"), ("m/versions/2.0", "m", "2.0")],
)
def test_metadata_names_version_and_tensors(proxied: Proxied, path: str, name: str, version: str) -> None:
    status, metadata = get(proxied, f"/v2/models/{path}")
    assert status == 200
    assert (metadata["name"], metadata["versions"]) == (name, [version])
    assert {"name": "image", "datatype": "BYTES", "shape": [-1]} in metadata["inputs"]
    outputs = {tensor["name"]: tensor["datatype"] for tensor in metadata["outputs"]}
    assert set(outputs) == set(OUTPUTS)
    assert outputs["heatmap"] == "FP32"


def test_server_metadata_and_liveness(proxied: Proxied) -> None:
    status, metadata = get(proxied, "/v2")
    assert status == 200
    assert (metadata["name"], metadata["version"]) == ("torchserve", ts.__version__.strip())
    assert get(proxied, "/") == (200, {"status": "alive"})


def test_server_is_ready_only_with_a_worker(proxied: Proxied, tmp_path: Path) -> None:
    proxied.inference.reply = lambda request: Reply.json({"ready": True})
    assert get(proxied, "/v2/health/ready") == (200, {"ready": True})
    ports = proxied.inference.port, proxied.management.port
    with proxy(tmp_path, *ports, model="loading") as other:
        # HAProxy assumes that a server is up until its checks fail.
        assert wait_until(lambda: http_client.get(f"{other.url}/health").status_code == 503, 30)
        response = http_client.get(f"{other.url}/v2/health/ready")
    assert (response.status_code, response.json()["code"]) == (503, "not_ready")


def test_unreachable_management_is_unavailable(proxied: Proxied, tmp_path: Path) -> None:
    with proxy(tmp_path, proxied.inference.port, 9) as other:
        first = http_client.get(f"{other.url}/v1/models/m")
        second = http_client.get(f"{other.url}/v2/models/m/ready")
    assert (first.status_code, first.json()["error"]["code"]) == (503, "unavailable")
    assert (second.status_code, second.json()["code"]) == (503, "unavailable")


@pytest.mark.parametrize("query", ["?customized=true", "?", "?min_worker=0&url=x"])
def test_management_receives_no_query(proxied: Proxied, query: str) -> None:
    assert get(proxied, f"/v2/models/m{query}")[0] == 200
    assert get(proxied, f"/v1/models/m{query}")[0] == 200
    assert {request.target for request in proxied.management.received} <= {"/models/m", f"/models/{MODEL}"}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"])
@pytest.mark.parametrize("path", ["/v1/models/x", "/v2/models/x", "/v2/models/x/ready", "/v2/models/x/versions/1"])
def test_other_methods_do_not_reach_management(proxied: Proxied, method: str, path: str) -> None:
    http_client.request(method, f"{proxied.proxy.url}{path}")
    assert reached(proxied.management) == []
    assert reached(proxied.inference) == [path]


@pytest.mark.parametrize(
    "path",
    [
        "/models",
        "/models/x",
        "/models/x/set-default",
        "/v1/models",
        "/v1/models/",
        "/v1/models/x/",
        "/v1/models/x/1.0",
        "/v1/models/x/ready",
        "/v1/models/x%2f..%2f..",
        "/v1/models/..",
        "/v2/models",
        "/v2/models/x/all",
        "/v2/models/x/1.0",
        "/v2/models/x%3fcustomized=true",
        "/v2/models/../models",
        "/v2/models/x/versions",
        "/v2/models/x/versions/1/ready/x",
        "/v2/models/x;y",
        "/v2/models//ready",
        "/v2/repository/index",
        "/api-description",
        "/workflows",
        "/metrics",
    ],
)
def test_other_paths_do_not_reach_management(proxied: Proxied, path: str) -> None:
    proxied.proxy.exchange(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert reached(proxied.management) == []
    assert reached(proxied.inference) == [path]


def test_management_response_is_not_forwarded(proxied: Proxied) -> None:
    for path in (
        "/v1/models/m",
        "/v2/models/m",
        "/v2/models/m/ready",
        "/v1/models/loading",
        "/v2/models/loading/ready",
    ):
        assert "secret.mar" not in http_client.get(f"{proxied.proxy.url}{path}").text


def reached(api: FakeTorchServe) -> list[str]:
    """Return the targets that an API received, except those of health checks."""
    return [request.target for request in api.received if request.target != f"/models/{MODEL}"]
