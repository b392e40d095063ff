"""A running container of the image under test."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass

import requests

from tools.image.container import ContainerEngine, ContainerError
from tools.paths import ROOT
from tools.server.processes import wait_until

PHOTOGRAPH = (ROOT / "examples" / "chelsea.jpg").read_bytes()
IMAGE = os.environ.get("IMAGE", "")
READY_TIMEOUT = 240.0
# Kills the processes whose command line contains a word; the image has no pkill.
KILL = """
import os, signal, sys
for pid in filter(str.isdigit, os.listdir("/proc")):
    words = open(f"/proc/{pid}/cmdline", "rb").read().decode().split("\\0")
    if any(sys.argv[1] in word for word in words) and int(pid) != os.getpid():
        os.kill(int(pid), signal.SIGKILL)
"""


@dataclass(frozen=True)
class Container:
    """A running container; `ports` maps its ports to ports of this machine."""

    engine: ContainerEngine
    name: str
    ports: dict[int, int]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[8080]}"

    def post(self, model: str = "efficientnet_lite0", **options: str) -> requests.Response:
        """Classify a photograph, on a new connection."""
        headers = {f"Gradcam-{name}": value for name, value in options.items()}
        headers |= {"Content-Type": "image/jpeg", "Connection": "close"}
        return requests.post(f"{self.url}/predictions/{model}", data=PHOTOGRAPH, headers=headers, timeout=120)

    def is_healthy(self) -> bool:
        return requests.get(f"{self.url}/health", timeout=5).status_code == 200

    def run(self, *command: str) -> str:
        return self.engine("exec", self.name, *command).stdout

    def kill(self, word: str) -> None:
        """Kill the processes whose command line contains this word."""
        self.run("python", "-c", KILL, word)

    def logs(self) -> str:
        done = self.engine("logs", self.name, check=False)
        return done.stdout + done.stderr

    def is_running(self) -> bool:
        return self.engine("inspect", "--format", "{{.State.Running}}", self.name).stdout.strip() == "true"

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition; fail with the end of the container's log when it stops or time runs out."""

        def satisfied() -> bool:
            with suppress(requests.ConnectionError, ContainerError):
                if condition():
                    return True
            assert self.is_running(), self.logs()[-4000:]
            return False

        assert wait_until(satisfied, READY_TIMEOUT), self.logs()[-4000:]


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
