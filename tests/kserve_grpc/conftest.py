"""V2's gRPC service in front of a fake TorchServe and a fake proxy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from kserve_grpc.http_api import HttpApi
from kserve_grpc.messages import MESSAGES, SERVICE
from kserve_grpc.service import Service, create_server
from tests.support.fake_torchserve import FakeTorchServe, Reply, fake_torchserve
from tests.support.grpc_client import OPTIONS

SECONDS = 30


@dataclass(frozen=True)
class Served:
    """A channel to the service, and the two HTTP APIs behind it."""

    channel: grpc.Channel
    torchserve: FakeTorchServe
    proxy: FakeTorchServe

    def call(self, name: str, /, seconds: float = SECONDS, token: str | None = None, **members: Any) -> Any:
        """Call a method with a message that has these members."""
        metadata = [] if token is None else [("authorization", token), ("other", "x")]
        method = self.channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=MESSAGES[f"{name}Request"].SerializeToString,
            response_deserializer=MESSAGES[f"{name}Response"].FromString,
        )
        return method(MESSAGES[f"{name}Request"](**members), timeout=seconds, metadata=metadata)

    def error(self, name: str, /, seconds: float = SECONDS, **members: Any) -> tuple[grpc.StatusCode, str]:
        """Call a method that fails; return its status and message."""
        with pytest.raises(grpc.RpcError) as failure:
            self.call(name, seconds, **members)
        return failure.value.code(), failure.value.details()


@pytest.fixture(scope="module")
def running() -> Iterator[Served]:
    with fake_torchserve() as torchserve, fake_torchserve() as proxy:
        apis = HttpApi("127.0.0.1", torchserve.port), HttpApi("127.0.0.1", proxy.port)
        server, port = create_server("127.0.0.1:0", Service(*apis))
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}", OPTIONS) as channel:
            yield Served(channel, torchserve, proxy)
        server.stop(None).wait()


@pytest.fixture
def served(running: Served) -> Served:
    """The service; the APIs behind it have received nothing yet."""
    for api in (running.torchserve, running.proxy):
        api.received.clear()
        api.reply = lambda request: Reply()
    return running
