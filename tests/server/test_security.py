"""A server with TLS and tokens, configured as in docs/security.md."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests

from tests.support import http_client
from tests.support.grpc_client import OPTIONS, GrpcClient, compile_stubs
from tools.ports import HOST
from tools.server import healthcheck
from tools.server.port_check import free_port
from tools.server.processes import wait_until
from tools.server.server import Server

REJECTED = "Token Authorization failed. Token either incorrect, expired, or not provided correctly"
IMAGE = healthcheck.gray_png()
SECONDS = 120

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl for a certificate")


@dataclass
class Secured:
    """A server with TLS and tokens, and a client that trusts its certificate."""

    server: Server
    certificate: Path
    inference_url: str
    management_url: str
    tokens: dict[str, str] = field(default_factory=dict)

    def request(self, method: str, url: str, token: str | None = None, **parts: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.tokens[token]}"} if token else {}
        return http_client.request(method, url, headers=headers, verify=str(self.certificate), **parts)

    def read_tokens(self) -> None:
        entries = json.loads((self.server.directory / "key_file.json").read_text())
        self.tokens = {name: entry["key"] for name, entry in entries.items()}

    def is_ready(self) -> bool:
        try:
            self.read_tokens()
            response = self.request("GET", f"{self.management_url}/models/own", "management")
            return response.ok and response.json()[0]["workers"][0]["status"] == "READY"
        except (OSError, ValueError):  # the file is missing or incomplete, or no process listens
            return False


@pytest.fixture(scope="module")
def secured(own_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder, port = tmp_path_factory.mktemp("tls"), free_port()
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={HOST}"]
    files = ["-addext", f"subjectAltName=IP:{HOST}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", *options, *files], check=True, capture_output=True)
    settings = {
        "inference_address": f"https://{HOST}:{port}",
        "management_address": f"https://{HOST}:{port + 1}",
        "private_key_file": str(key),
        "certificate_file": str(certificate),
        "enable_grpc_ssl": "true",
        "disable_token_authorization": "false",
    }
    server = Server([own_archive], port, settings=settings)
    secured = Secured(server, certificate, settings["inference_address"], settings["management_address"])
    try:
        server.start()
        assert wait_until(secured.is_ready, SECONDS)
        yield secured
    finally:
        server.stop()


@pytest.fixture(scope="module")
def grpc_client(secured: Secured, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcClient]:
    stubs = tmp_path_factory.mktemp("stubs")
    compile_stubs(stubs)
    credentials = grpc.ssl_channel_credentials(secured.certificate.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(stubs)
        patch.setattr(grpc, "insecure_channel", lambda address, _: grpc.secure_channel(address, credentials, OPTIONS))
        client = GrpcClient(secured.server.grpc_inference_address)
    with client.channel:
        yield client


def test_plain_http_is_rejected(secured: Secured) -> None:
    plain = secured.inference_url.replace("https", "http")
    response = http_client.get(f"{plain}/ping")
    assert (response.status_code, response.json()["status"]) == (
        403,
        "This TorchServe instance only accepts HTTPS requests",
    )
    with pytest.raises(requests.exceptions.SSLError):
        http_client.get(f"{secured.inference_url}/ping")


@pytest.mark.parametrize(
    ("method", "api", "path", "token"),
    [
        ("GET", "inference", "/ping", "inference"),
        ("GET", "inference", "/v2/health/ready", "inference"),
        ("POST", "inference", "/predictions/own", "inference"),
        ("GET", "management", "/models/own", "management"),
        ("PUT", "management", "/models/own/1.0/set-default", "management"),
    ],
)
def test_each_api_requires_its_own_token(secured: Secured, method: str, api: str, path: str, token: str) -> None:
    url = f"{secured.inference_url if api == 'inference' else secured.management_url}{path}"
    parts = {"data": IMAGE} if method == "POST" else {}
    for wrong in (None, *({"inference", "management", "API"} - {token})):
        response = secured.request(method, url, wrong, **parts)
        assert (response.status_code, response.json()["message"]) == (400, REJECTED)
    assert secured.request(method, url, token, **parts).status_code == 200


def test_tokens_are_private_and_renewable(secured: Secured) -> None:
    assert stat.S_IMODE((secured.server.directory / "key_file.json").stat().st_mode) == 0o600
    old = secured.tokens["inference"]
    renewal = f"{secured.management_url}/token?type=inference"
    assert secured.request("GET", renewal, "management").status_code == 400
    assert secured.request("GET", renewal, "API").status_code == 200
    assert secured.request("GET", f"{secured.inference_url}/ping", "inference").status_code == 400
    secured.read_tokens()
    assert secured.tokens["inference"] != old
    assert secured.request("GET", f"{secured.inference_url}/ping", "inference").status_code == 200


def test_metrics_need_neither_tls_nor_token(secured: Secured) -> None:
    response = http_client.get(f"{secured.server.metrics_url}/metrics")
    assert response.status_code == 200
    assert "ts_inference_requests_total" in response.text


def test_grpc_requires_tls_and_token(secured: Secured, grpc_client: GrpcClient) -> None:
    message = grpc_client.request("own", {"data": IMAGE})
    for call in (
        lambda: grpc_client.torchserve.Predictions(message, timeout=60),
        lambda: grpc_client.infer("own", [IMAGE]),
    ):
        with pytest.raises(grpc.RpcError) as failure:
            call()
        assert (failure.value.code(), failure.value.details()) == (grpc.StatusCode.PERMISSION_DENIED, REJECTED)
    secured.read_tokens()
    metadata = (("authorization", f"Bearer {secured.tokens['inference']}"),)
    response = grpc_client.torchserve.Predictions(message, metadata=metadata, timeout=60)
    assert len(json.loads(response.prediction)["predictions"]) == 5
    with (
        grpc.insecure_channel(secured.server.grpc_inference_address, OPTIONS) as plain,
        pytest.raises(grpc.FutureTimeoutError),
    ):
        grpc.channel_ready_future(plain).result(timeout=2)
