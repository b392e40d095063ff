"""The image's HAProxy, run with its configuration on other ports."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kserve_grpc.http_api import HttpApi
from kserve_grpc.service import Service, create_server
from tools.paths import ROOT
from tools.ports import BEHIND_PROXY, GRPC_INFERENCE, HOST, INFERENCE, KSERVE_GRPC, MANAGEMENT
from tools.server.port_check import free_port
from tools.server.processes import wait_until

FOLDER = ROOT / "docker"
CONFIG = FOLDER / "haproxy.cfg"
HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
MODEL = "m"
SECONDS = 30

TORCHSERVE, TORCHSERVE_GRPC = INFERENCE + BEHIND_PROXY, GRPC_INFERENCE + BEHIND_PROXY


@dataclass(frozen=True)
class Proxy:
    """A running HAProxy."""

    port: int
    grpc_port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def grpc_address(self) -> str:
        return f"{HOST}:{self.grpc_port}"

    def connect(self) -> socket.socket:
        return socket.create_connection((HOST, self.port), timeout=SECONDS)

    def exchange(self, request: bytes) -> bytes:
        """Send bytes on a new connection, and return what came until the proxy closed it."""
        with self.connect() as connection:
            connection.sendall(request)
            return received(connection)

    def stop_gracefully(self) -> None:
        """Do what the image's entry point does on SIGTERM."""
        self.process.send_signal(signal.SIGUSR1)


def received(connection: socket.socket) -> bytes:
    """Return all bytes that arrive until the other side closes the connection."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def environment(model: str) -> dict[str, str]:
    """Return the variables that the image sets for HAProxy."""
    return os.environ | {"MODEL": model, "DRAIN_SECONDS": "20"}


def write_config(folder: Path, ports: Mapping[int, int], changes: Mapping[str, str]) -> Path:
    """Write the image's configuration into a folder, with other ports and with `changes` of its text."""
    text = CONFIG.read_text()
    for old, new in ports.items():
        text, count = re.subn(rf":{old}\b", f":{new}", text)
        assert count, old
    for before, after in changes.items():
        assert before in text, before
        text = text.replace(before, after)
    for file in FOLDER.glob("v2_*.json"):
        shutil.copy(file, folder)
    path = folder / CONFIG.name
    path.write_text(text)
    return path


@contextmanager
def proxy(
    folder: Path,
    inference: int,
    management: int,
    grpc: int = 9,
    *,
    kserve_grpc: int = 9,
    port: int | None = None,
    model: str = MODEL,
    changes: Mapping[str, str] | None = None,
) -> Iterator[Proxy]:
    """Run HAProxy for the block.

    Args:
        folder: for its configuration.
        inference: port of TorchServe's inference API.
        management: port of TorchServe's management API.
        grpc: port of TorchServe's gRPC inference API.
        kserve_grpc: port of V2's gRPC service.
        port: of the proxy; None: any free one.
        model: of `/health`.
        changes: texts of the configuration, and what replaces them.
    """
    port = port or free_port()
    ports = {
        TORCHSERVE: inference,
        TORCHSERVE_GRPC: grpc,
        KSERVE_GRPC: kserve_grpc,
        MANAGEMENT: management,
        INFERENCE: port,
        GRPC_INFERENCE: port + 3,
    }
    assert HAPROXY is not None
    command = [HAPROXY, "-db", "-f", str(write_config(folder, ports, changes or {}))]
    with subprocess.Popen(command, env=environment(model), stdout=subprocess.DEVNULL) as process:
        running = Proxy(port, port + 3, process)
        try:
            assert wait_until(lambda: accepts(port), SECONDS)
            yield running
        finally:
            process.kill()


@contextmanager
def image_servers(folder: Path, torchserve: int, model: str) -> Iterator[Proxy]:
    """Run HAProxy and V2's gRPC service in front of a TorchServe, as the image does, for the block.

    Args:
        folder: for the proxy's configuration.
        torchserve: port of the inference API; the ports of the others follow.
        model: of `/health`.
    """
    port = free_port()
    service = Service(torchserve=HttpApi(HOST, torchserve), proxy=HttpApi(HOST, port))
    server, grpc_port = create_server(f"{HOST}:0", service)
    server.start()
    apis = torchserve, torchserve + MANAGEMENT - INFERENCE, torchserve + GRPC_INFERENCE - INFERENCE
    try:
        with proxy(folder, *apis, kserve_grpc=grpc_port, port=port, model=model) as running:
            yield running
    finally:
        server.stop(None).wait()


def accepts(port: int) -> bool:
    """Return whether a process accepts connections at a port."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
