"""What images are built with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.image import container as image
from tools.image.container import ImageError


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for commands, the only one there is."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def command(path: Path, name: str, status: int) -> None:
    (path / name).write_text(f"#!/bin/sh\nexit {status}\n")
    (path / name).chmod(0o755)


def test_a_docker_that_runs_comes_first(path: Path) -> None:
    command(path, "docker", 0)
    command(path, "podman", 0)
    assert image.find_engine().command == "docker"


def test_podman_takes_the_place_of_a_docker_whose_engine_does_not_run(path: Path) -> None:
    command(path, "docker", 1)
    command(path, "podman", 0)
    assert image.find_engine().command == "podman"


def test_where_there_is_neither_it_says_what_to_install(path: Path) -> None:
    command(path, "docker", 1)
    with pytest.raises(ImageError, match=r"apt-get install --no-install-recommends podman runc catatonit debootstrap"):
        image.find_engine()


def test_a_base_that_cannot_be_pulled_is_made_of_the_release_in_its_name() -> None:
    assert image.base_image() == "docker.io/library/python:3.11-slim-bookworm"
