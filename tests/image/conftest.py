"""Containers of the image that `make image-test` builds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.container import IMAGE, Container, free_port
from tools.image.container import ContainerEngine, find_engine

# The restrictions of the Kubernetes manifests.
CONFINED = ["--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp:mode=1777"]
LIMITED = ["--memory", "4g", "--cpus", "2"]
PORTS = (8080, 8083, 8090)

Start = Callable[..., Container]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))
            if not IMAGE:
                item.add_marker(pytest.mark.skip(reason="run by make image-test, which builds the image"))


@pytest.fixture(scope="session")
def engine() -> ContainerEngine:
    return find_engine()


@pytest.fixture(scope="session")
def start(engine: ContainerEngine) -> Iterator[Start]:
    """Return a function that starts containers; they are removed at the end of the session."""
    started: list[str] = []

    def run(*options: str, image: str = IMAGE, command: tuple[str, ...] = ()) -> Container:
        ports = {port: free_port() for port in PORTS}
        publish = [part for port, local in ports.items() for part in ("--publish", f"127.0.0.1:{local}:{port}")]
        name = f"gradcam-test-{ports[8080]}"
        started.append(name)
        engine("run", "--detach", "--name", name, *publish, *CONFINED, *LIMITED, *options, image, *command)
        return Container(engine, name, ports)

    yield run
    for name in started:
        engine("rm", "--force", name, check=False)


@pytest.fixture(scope="session")
def served(start: Start) -> Container:
    """A container with no mounts and no settings except resource limits."""
    container = start()
    container.wait_until(container.is_healthy)
    return container
