"""`.ci/prepare_image.py`, with a fake podman."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

from tools.image.container import ContainerEngine, ContainerError
from tools.paths import ROOT

FAKE = """#!/bin/sh
echo "$*" >> "$0.log"
case "$*" in "image inspect"*) exit %d ;; pull*) exit %d ;; esac
"""


@pytest.fixture(scope="module")
def prepare_image() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_image", ROOT / ".ci" / "prepare_image.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare_image: ModuleType) -> Path:
    """An empty folder, the only one on PATH, and a folder of its own for the configuration."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("CONTAINERS_CONF", "STORAGE_DRIVER"):
        monkeypatch.setenv(name, "")  # so that it is restored afterwards
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(prepare_image, "BUILD", tmp_path / "build")
    return folder


def podman(path: Path, inspect: int, pull: int) -> None:
    (path / "podman").write_text(FAKE % (inspect, pull))
    (path / "podman").chmod(0o755)


def log(path: Path) -> str:
    return (path / "podman.log").read_text()


def test_an_existing_base_image_is_used(path: Path, prepare_image: ModuleType) -> None:
    podman(path, inspect=0, pull=1)
    assert prepare_image.prepare().command == "podman"
    assert "pull" not in log(path)


def test_a_base_image_is_pulled(path: Path, prepare_image: ModuleType) -> None:
    podman(path, inspect=1, pull=0)
    assert prepare_image.prepare().command == "podman"
    assert "pull docker.io/library/python:" in log(path)


def test_without_debootstrap_no_substitute_is_made(path: Path, prepare_image: ModuleType) -> None:
    podman(path, inspect=1, pull=1)
    with pytest.raises(ContainerError, match="needs debootstrap and root"):
        prepare_image.prepare()


def test_without_an_engine_and_apt_it_fails(path: Path, prepare_image: ModuleType) -> None:
    with pytest.raises(ContainerError, match="needs podman or a running Docker"):
        prepare_image.prepare()


def test_the_configuration_without_systemd_is_inherited(path: Path, tmp_path: Path, prepare_image: ModuleType) -> None:
    prepare_image.configure_without_systemd()
    config = tmp_path / "build" / "containers.conf"
    assert os.environ["CONTAINERS_CONF"] == str(config)
    assert 'cgroup_manager="cgroupfs"' in config.read_text()


def test_only_podman_needs_options(prepare_image: ModuleType) -> None:
    assert prepare_image.build_options(ContainerEngine("docker")) == []
    assert prepare_image.build_options(ContainerEngine("podman"))[:4] == ["--isolation", "chroot", "--network", "host"]
