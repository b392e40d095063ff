"""The proxy in front of a real TorchServe with two workers."""

from __future__ import annotations

import base64
import importlib
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest

from tests.support import http_client
from tests.support.grpc_client import OPTIONS, compile_stubs
from tests.support.proxy import SECONDS, Proxy, proxy
from tools.paths import EXAMPLE_IMAGE
from tools.server.capacity import WorkerPlan
from tools.server.port_check import free_port
from tools.server.server import Server

MODEL = "squash"
IMAGE = EXAMPLE_IMAGE.read_bytes()
STANDARD = "/inference.GRPCInferenceService/"


@pytest.fixture(scope="module")
def front(squash_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    port = free_port()
    with (
        Server([squash_archive], port, plan=WorkerPlan(workers=2, threads=1)),
        proxy(tmp_path_factory.mktemp("proxy"), port, port + 1, port + 3, model=MODEL) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The messages of V2's gRPC service."""
    stubs = tmp_path_factory.mktemp("stubs")
    compile_stubs(stubs)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(stubs)
        return importlib.import_module("open_inference_grpc_pb2")


def infer_body() -> dict[str, Any]:
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(IMAGE).decode()]}
    return {"inputs": [tensor], "parameters": {"topk": 2}}


def test_state_of_a_served_and_of_an_unknown_model(front: Proxy) -> None:
    for path in (f"/v1/models/{MODEL}", f"/v2/models/{MODEL}/ready", f"/v2/models/{MODEL}/versions/1.0/ready"):
        response = http_client.get(f"{front.url}{path}")
        assert (response.status_code, response.json()) == (200, {"name": MODEL, "ready": True})
    assert http_client.get(f"{front.url}/v2/models/{MODEL}").json()["versions"] == ["1.0"]
    assert http_client.get(f"{front.url}/v2/health/ready").status_code == 200
    for path in ("/v1/models/none", "/v2/models/none", "/v2/models/none/ready", f"/v2/models/{MODEL}/versions/7"):
        assert http_client.get(f"{front.url}{path}").status_code == 404


def test_image_that_urllib_declares_as_a_form(front: Proxy) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{front.url}/predictions/{MODEL}", IMAGE, timeout=SECONDS) as response:
        assert len(json.load(response)["predictions"]) == 5


def test_version_in_a_v2_path(front: Proxy) -> None:
    path = f"{front.url}/v2/models/{MODEL}"
    plain, versioned = (
        http_client.post(f"{path}{version}/infer", json=infer_body()) for version in ("", "/versions/1.0")
    )
    assert plain.status_code == 200, plain.text
    assert versioned.json() == plain.json()
    unknown = http_client.post(f"{path}/versions/7/infer", json=infer_body())
    assert unknown.status_code == 404
    assert "7" in unknown.json()["error"]


def test_unknown_model_in_v2_is_an_error_that_clients_can_print(front: Proxy) -> None:
    response = http_client.post(f"{front.url}/v2/models/none/infer", json=infer_body())
    assert response.status_code == 404
    assert "none" in response.json()["error"]


def test_pipelined_answers_of_two_workers_come_in_order(front: Proxy) -> None:
    counts = [3, 1, 4, 2, 5, 1, 3, 2]
    head = f"POST /predictions/{MODEL} HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(IMAGE)}"
    requests = [f"{head}\r\nGradcam-Topk: {count}\r\nGradcam-Explain: 0" for count in counts]
    requests[-1] += "\r\nConnection: close"
    answers = front.exchange(b"".join(request.encode() + b"\r\n\r\n" + IMAGE for request in requests)).decode()
    predictions = re.findall(r'"predictions": ?(\[.*?\])', answers)
    assert [len(json.loads(found)) for found in predictions] == counts


def test_standard_grpc_name(front: Proxy, messages: ModuleType) -> None:
    def call(name: str, /, **members: Any) -> Any:
        request, response = (getattr(messages, f"{name}{part}") for part in ("Request", "Response"))
        method = channel.unary_unary(
            f"{STANDARD}{name}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        return method(request(**members), timeout=SECONDS)

    contents = messages.InferTensorContents(bytes_contents=[IMAGE])
    tensor = messages.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1], contents=contents)
    with grpc.insecure_channel(front.grpc_address, OPTIONS) as channel:
        assert call("ServerLive").live
        assert call("ServerReady").ready
        assert call("ModelReady", name=MODEL).ready
        assert call("ModelMetadata", name=MODEL).name == MODEL
        outputs = {output.name for output in call("ModelInfer", model_name=MODEL, inputs=[tensor]).outputs}
    assert {"label", "probability", "heatmap"} <= outputs
