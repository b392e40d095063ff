"""The standard name of V2's gRPC service, and the method that clients must not reach."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from tests.support.grpc_client import OPTIONS
from tests.support.proxy import SECONDS, proxy

STANDARD = "inference.GRPCInferenceService"
TORCHSERVE = "org.pytorch.serve.grpc.openinference.GRPCInferenceService"
OWN = "org.pytorch.serve.grpc.inference.InferenceAPIsService"


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Answers each call with its method and message."""

    def service(self, call: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda message, _: f"{call.method} ".encode() + message)


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    """A channel to the proxy in front of a server that echoes."""
    server = grpc.server(ThreadPoolExecutor(2), [Echo()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with (
        proxy(tmp_path_factory.mktemp("grpc"), 9, 9, port) as front,
        grpc.insecure_channel(front.grpc_address, OPTIONS) as connected,
    ):
        yield connected
    server.stop(None).wait()


def call(channel: grpc.Channel, method: str, message: bytes = b"message") -> bytes:
    return bytes(channel.unary_unary(method)(message, timeout=SECONDS))


@pytest.mark.parametrize("method", ["ServerLive", "ServerReady", "ModelReady", "ModelMetadata", "ModelInfer"])
def test_standard_name_is_that_of_torchserve(channel: grpc.Channel, method: str) -> None:
    assert call(channel, f"/{STANDARD}/{method}") == f"/{TORCHSERVE}/{method} message".encode()


@pytest.mark.parametrize("method", [f"/{TORCHSERVE}/ModelInfer", f"/{OWN}/Predictions", f"/x{STANDARD}/ModelInfer"])
def test_other_names_stay(channel: grpc.Channel, method: str) -> None:
    assert call(channel, method) == f"{method} message".encode()


def test_large_messages_pass(channel: grpc.Channel) -> None:
    image = bytes(3_000_000)
    assert call(channel, f"/{STANDARD}/ModelInfer", image).endswith(image)


@pytest.mark.parametrize("service", [OWN, STANDARD])
def test_method_that_ends_workers_is_denied(channel: grpc.Channel, service: str) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        call(channel, f"/{service}/StreamPredictions2")
    assert failure.value.code() == grpc.StatusCode.PERMISSION_DENIED
