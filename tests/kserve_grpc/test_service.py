"""Methods of the service, and what a client receives if something fails."""

from __future__ import annotations

import json
import threading
from typing import Any

import grpc
import pytest

from kserve_grpc.http_api import HttpApi
from kserve_grpc.service import MAX_MESSAGE_BYTES, Service, create_server
from kserve_grpc.translation import LENGTH_HEADER
from tests.kserve_grpc.conftest import SECONDS, Served
from tests.support.fake_torchserve import Received, Reply

TENSOR: dict[str, Any] = {"name": "image", "datatype": "BYTES", "shape": [1]}
RAW = b"\x02\0\0\0ab"
INFER: dict[str, Any] = {"model_name": "m", "inputs": [TENSOR], "raw_input_contents": [RAW]}


def binary_reply(_: Received) -> Reply:
    """Answer with one binary tensor, as the handler does."""
    output = {"name": "label", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": len(RAW)}}
    head = json.dumps({"model_name": "m", "model_version": "1.0", "outputs": [output]}).encode()
    return Reply(body=head + RAW, headers={LENGTH_HEADER: str(len(head))})


@pytest.mark.parametrize(
    ("version", "path"), [("", "/v2/models/m/infer"), ("2.0", "/predictions/m/2.0"), ("a/b", "/predictions/m/a%2Fb")]
)
def test_inference_goes_to_torchserve(served: Served, version: str, path: str) -> None:
    served.torchserve.reply = binary_reply
    response = served.call("ModelInfer", model_version=version, **INFER)
    assert list(response.raw_output_contents) == [RAW]
    (request,) = served.torchserve.received
    assert (request.method, request.target) == ("POST", path)
    length = int(request.headers[LENGTH_HEADER.lower()])
    assert json.loads(request.body[:length])["inputs"][0]["shape"] == [1]
    assert request.body[length:] == RAW
    assert served.proxy.received == []


def test_response_without_tensors_is_json_only(served: Served) -> None:
    served.torchserve.reply = lambda _: Reply.json({"model_name": "m", "model_version": "1.0", "outputs": []})
    assert not served.call("ModelInfer", **INFER).outputs


@pytest.mark.parametrize(
    ("status", "document", "code"),
    [
        (400, {"error": "topk must be at least 1", "code": "invalid_option"}, grpc.StatusCode.INVALID_ARGUMENT),
        (413, {"error": "Image is too large", "code": "image_too_large"}, grpc.StatusCode.INVALID_ARGUMENT),
        (415, {"error": "Unsupported", "code": "unsupported_image"}, grpc.StatusCode.INVALID_ARGUMENT),
        (422, {"error": "Unknown class", "code": "unknown_class"}, grpc.StatusCode.INVALID_ARGUMENT),
        (404, {"code": 404, "type": "X", "message": "Model not found: m"}, grpc.StatusCode.NOT_FOUND),
        (503, {"code": 503, "type": "X", "message": "Queue is full"}, grpc.StatusCode.UNAVAILABLE),
        (507, {"code": 507, "type": "X", "message": "Worker died"}, grpc.StatusCode.INTERNAL),
    ],
)
def test_errors_are_statuses(served: Served, status: int, document: Any, code: grpc.StatusCode) -> None:
    served.torchserve.reply = lambda _: Reply.json(document, status)
    assert served.error("ModelInfer", **INFER) == (code, document.get("error") or document["message"])


def test_error_that_is_no_json(served: Served) -> None:
    served.torchserve.reply = lambda _: Reply(500, b"<html>")
    assert served.error("ModelInfer", **INFER) == (grpc.StatusCode.INTERNAL, "TorchServe returned HTTP status 500")


def test_call_without_an_http_form_is_rejected(served: Served) -> None:
    code, message = served.error("ModelInfer", **{**INFER, "raw_input_contents": [RAW, RAW]})
    assert (code, "each of the 1 inputs, got 2" in message) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    assert served.torchserve.received == []


def test_no_response_is_unavailable(served: Served) -> None:
    served.torchserve.reply = lambda _: Reply(drop=True)
    code, message = served.error("ModelInfer", **INFER)
    assert code == grpc.StatusCode.UNAVAILABLE
    assert "send the request again" in message


def test_deadline_of_the_client_ends_the_wait(served: Served) -> None:
    release = threading.Event()

    def reply(_: Received) -> Reply:
        assert release.wait(SECONDS)
        return Reply(drop=True)

    served.torchserve.reply = reply
    try:
        code, _ = served.error("ModelInfer", seconds=0.1, **INFER)
    finally:
        release.set()
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED


def test_message_over_the_limit_is_rejected(served: Served) -> None:
    code, _ = served.error("ModelInfer", **{**INFER, "raw_input_contents": [bytes(MAX_MESSAGE_BYTES)]})
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert served.torchserve.received == []


# ----------------------------------------------------------------------------- state


def test_server_state(served: Served) -> None:
    assert served.call("ServerLive").live is True
    assert served.call("ServerReady").ready is True
    assert [request.target for request in served.proxy.received] == ["/v2/health/live", "/v2/health/ready"]
    served.proxy.reply = lambda _: Reply.json({"error": "m has no ready worker", "code": "not_ready"}, 503)
    assert served.call("ServerReady").ready is False
    assert served.error("ServerLive")[0] == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(("version", "path"), [("", "/v2/models/m/ready"), ("2.0", "/v2/models/m/versions/2.0/ready")])
def test_model_readiness(served: Served, version: str, path: str) -> None:
    assert served.call("ModelReady", name="m", version=version).ready is True
    assert [request.target for request in served.proxy.received] == [path]
    served.proxy.reply = lambda _: Reply.json({"error": "m has no ready worker", "code": "not_ready"}, 503)
    assert served.call("ModelReady", name="m", version=version).ready is False
    served.proxy.reply = lambda _: Reply.json({"error": "Unknown model m", "code": "unknown_model"}, 404)
    assert served.error("ModelReady", name="m", version=version) == (grpc.StatusCode.NOT_FOUND, "Unknown model m")


def test_metadata(served: Served) -> None:
    document = {
        "name": "m",
        "versions": ["2.0"],
        "platform": "p",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "heatmap", "datatype": "FP32", "shape": [-1, -1]}],
    }
    served.proxy.reply = lambda _: Reply.json(document)
    metadata = served.call("ModelMetadata", name="m", version="2.0")
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("m", ["2.0"], "p")
    assert [(tensor.name, list(tensor.shape)) for tensor in metadata.inputs] == [("image", [-1])]
    assert [(tensor.datatype, list(tensor.shape)) for tensor in metadata.outputs] == [("FP32", [-1, -1])]
    served.proxy.reply = lambda _: Reply.json({"name": "torchserve", "version": "0", "extensions": ["x"], "new": 1})
    server = served.call("ServerMetadata")
    assert (server.name, server.version, list(server.extensions)) == ("torchserve", "0", ["x"])
    assert [request.target for request in served.proxy.received] == ["/v2/models/m/versions/2.0", "/v2"]


def test_token_of_the_client_is_passed_on(served: Served) -> None:
    served.torchserve.reply = binary_reply
    served.call("ModelInfer", token="Bearer t", **INFER)
    served.call("ServerReady", token="Bearer t")
    for api in (served.torchserve, served.proxy):
        (request,) = api.received
        assert request.headers["authorization"] == "Bearer t"
        assert "other" not in request.headers


def test_port_in_use_is_an_error() -> None:
    apis = HttpApi("127.0.0.1", 9), HttpApi("127.0.0.1", 9)
    server, port = create_server("127.0.0.1:0", Service(*apis))
    server.start()
    try:
        with pytest.raises(RuntimeError):
            create_server(f"127.0.0.1:{port}", Service(*apis))
    finally:
        server.stop(None).wait()
