"""Which server answers a gRPC call, and the method that clients must not reach."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from tests.support.grpc_client import OPTIONS
from tests.support.proxy import SECONDS, proxy

STANDARD = "inference.GRPCInferenceService"
TORCHSERVE = "org.pytorch.serve.grpc.openinference.GRPCInferenceService"
OWN = "org.pytorch.serve.grpc.inference.InferenceAPIsService"


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Answers each call with its own name, the call's method and its message."""

    def __init__(self, name: str) -> None:
        self.name = name

    def service(self, call: grpc.HandlerCallDetails) -> Any:
        head = f"{self.name} {call.method} ".encode()
        return grpc.unary_unary_rpc_method_handler(lambda message, _: head + message)


@contextmanager
def echo(name: str) -> Iterator[int]:
    """Run a server that echoes, and yield its port."""
    server = grpc.server(ThreadPoolExecutor(2), [Echo(name)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    """A channel to the proxy in front of TorchServe's gRPC services and V2's."""
    with (
        echo("torchserve") as torchserve,
        echo("kserve") as kserve,
        proxy(tmp_path_factory.mktemp("grpc"), 9, 9, torchserve, kserve_grpc=kserve) as front,
        grpc.insecure_channel(front.grpc_address, OPTIONS) as connected,
    ):
        yield connected


def call(channel: grpc.Channel, method: str, message: bytes = b"message") -> bytes:
    return bytes(channel.unary_unary(method)(message, timeout=SECONDS))


@pytest.mark.parametrize("method", ["ServerLive", "ModelInfer", "ModelStreamInfer"])
def test_standard_service_is_not_that_of_torchserve(channel: grpc.Channel, method: str) -> None:
    assert call(channel, f"/{STANDARD}/{method}") == f"kserve /{STANDARD}/{method} message".encode()


@pytest.mark.parametrize("method", [f"/{TORCHSERVE}/ModelInfer", f"/{OWN}/Predictions", f"/x{STANDARD}/ModelInfer"])
def test_other_services_are_those_of_torchserve(channel: grpc.Channel, method: str) -> None:
    assert call(channel, method) == f"torchserve {method} message".encode()


@pytest.mark.parametrize("service", [TORCHSERVE, STANDARD])
def test_large_messages_pass(channel: grpc.Channel, service: str) -> None:
    image = bytes(3_000_000)
    assert call(channel, f"/{service}/ModelInfer", image).endswith(image)


@pytest.mark.parametrize("service", [OWN, STANDARD])
def test_method_that_ends_workers_is_denied(channel: grpc.Channel, service: str) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        call(channel, f"/{service}/StreamPredictions2")
    assert failure.value.code() == grpc.StatusCode.PERMISSION_DENIED
