"""The choice between docker and podman, and of the base image."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.image import container
from tools.image.container import ContainerError


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, the only one on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def command(path: Path, name: str, status: int) -> None:
    (path / name).write_text(f"#!/bin/sh\nexit {status}\n")
    (path / name).chmod(0o755)


def test_running_docker_is_preferred(path: Path) -> None:
    command(path, "docker", 0)
    command(path, "podman", 0)
    assert container.find_engine().command == "docker"


def test_podman_is_used_if_docker_does_not_run(path: Path) -> None:
    command(path, "docker", 1)
    command(path, "podman", 0)
    assert container.find_engine().command == "podman"


def test_error_without_docker_and_podman_says_what_to_install(path: Path) -> None:
    command(path, "docker", 1)
    with pytest.raises(ContainerError, match=r"apt-get install --no-install-recommends podman runc catatonit"):
        container.find_engine()


def test_base_image_names_its_debian_release() -> None:
    assert container.base_image() == "docker.io/library/python:3.11-slim-bookworm"
