"""The proxy in front of a real TorchServe with two workers."""

from __future__ import annotations

import base64
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from kserve_grpc.messages import MESSAGES
from tests.support import http_client
from tests.support.client_requests import REQUESTS, tensors
from tests.support.grpc_client import OPTIONS
from tests.support.proxy import SECONDS, Proxy, image_servers
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
        image_servers(tmp_path_factory.mktemp("proxy"), port, MODEL) as running,
    ):
        yield running


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


def test_standard_grpc_service(front: Proxy) -> None:
    def call(name: str, /, **members: Any) -> Any:
        request, response = (MESSAGES[f"{name}{part}"] for part in ("Request", "Response"))
        method = channel.unary_unary(
            f"{STANDARD}{name}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        return method(request(**members), timeout=SECONDS)

    def infer(**members: Any) -> dict[str, bytes]:
        response = call("ModelInfer", model_name=MODEL, parameters={"topk": {"int64_param": 2}}, **members)
        names = [output.name for output in response.outputs]
        return dict(zip(names, response.raw_output_contents, strict=True))

    tensor = {"name": "image", "datatype": "BYTES", "shape": [1]}
    with grpc.insecure_channel(front.grpc_address, OPTIONS) as channel:
        assert call("ServerLive").live
        assert call("ServerReady").ready
        assert call("ModelReady", name=MODEL).ready
        assert call("ServerMetadata").extensions == ["binary_tensor_data"]
        metadata = call("ModelMetadata", name=MODEL)
        raw = infer(inputs=[tensor], raw_input_contents=[len(IMAGE).to_bytes(4, "little") + IMAGE])
        typed = infer(inputs=[tensor | {"contents": {"bytes_contents": [IMAGE]}}], model_version="1.0")
        with pytest.raises(grpc.RpcError) as failure:
            infer(inputs=[tensor | {"contents": {"bytes_contents": [b"no image"]}}])
    assert (metadata.name, metadata.versions) == (MODEL, ["1.0"])
    assert raw == typed
    assert len(np.frombuffer(raw["index"], "<i8")) == 2
    probabilities = np.frombuffer(raw["probability"], "<f4")
    answer = http_client.post(f"{front.url}/v2/models/{MODEL}/infer", json=infer_body()).json()
    (expected,) = (output["data"] for output in answer["outputs"] if output["name"] == "probability")
    assert probabilities == pytest.approx(expected, abs=1e-6)
    assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "mage" in failure.value.details()


@pytest.mark.parametrize("name", REQUESTS)
def test_recorded_requests_of_kserves_and_tritons_clients(name: str, front: Proxy) -> None:
    recorded = REQUESTS[name]
    url = f"{front.url}/v2/models/{MODEL}/infer"
    response = http_client.post(url, data=recorded.body, headers=recorded.headers)
    assert response.status_code == 200, response.text
    length = response.headers.get("Inference-Header-Content-Length")
    outputs = tensors(response.content, None if length is None else int(length))
    assert {"label", "heatmap"} <= outputs.keys()
