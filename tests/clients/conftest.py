"""A real TorchServe, alone and behind the image's HAProxy, and the environments of the clients in build/.

The clients share no package with the server.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from tests.support.proxy import image_servers
from tools.archive import build as build_mar
from tools.archive.build import Build
from tools.paths import REQUIREMENTS, ROOT
from tools.server.capacity import WorkerPlan
from tools.server.port_check import free_port
from tools.server.server import Server

HERE = Path(__file__).parent
PYTHON_CLIENTS = ROOT / "build" / "clients"
NODE_CLIENTS = ROOT / "build" / "clients-node"
MODEL = "efficientnet_lite0"
NODE_FILES = ("package.json", "package-lock.json")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    requested = any(Path(str(argument).split("::")[0]).resolve().is_relative_to(HERE) for argument in config.args)
    for item in items:
        if item.path.is_relative_to(HERE) and not requested:
            item.add_marker(pytest.mark.skip(reason="`make clients-test` runs these with real clients"))


def run(command: Sequence[Any], cwd: Path = ROOT, **environment: str) -> str:
    """Run a command, and return its output."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(ROOT / "build"), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def installed(folder: Path, files: Sequence[Path]) -> bool:
    """Tell whether a folder was installed from these lock files; if not, empty it."""
    stamp = folder / ".installed"
    if stamp.exists() and stamp.read_text() == _digest(files):
        return True
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return False


def stamp(folder: Path, files: Sequence[Path]) -> None:
    (folder / ".installed").write_text(_digest(files))


def _digest(files: Sequence[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


@pytest.fixture(scope="session")
def python() -> Path:
    """A Python with the packages of requirements/clients.txt and nothing else."""
    lock = REQUIREMENTS / "clients.txt"
    executable = PYTHON_CLIENTS / "bin" / "python"
    if not installed(PYTHON_CLIENTS, [lock]):
        run([sys.executable, "-m", "venv", PYTHON_CLIENTS])
        run([executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--requirement", lock])
        stamp(PYTHON_CLIENTS, [lock])
    return executable


@pytest.fixture(scope="session")
def node() -> Path:
    """A folder with the packages of tests/clients/package-lock.json."""
    if shutil.which("npm") is None:
        pytest.fail("npm is missing: install Node 20 or newer")
    files = [HERE / name for name in NODE_FILES]
    if not installed(NODE_CLIENTS, files):
        for path in files:
            shutil.copy(path, NODE_CLIENTS)
        run(["npm", "ci", "--no-audit", "--no-fund"], NODE_CLIENTS)
        stamp(NODE_CLIENTS, files)
    return NODE_CLIENTS


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    archive = build_mar.build(Build(MODEL, engine="eager", output=tmp_path_factory.mktemp("store")))
    plan = WorkerPlan(workers=2, threads=1)
    with Server([archive], free_port(), tmp_path_factory.mktemp("logs"), plan=plan) as running:
        yield running


@dataclass(frozen=True)
class Place:
    """Where clients find the server."""

    name: str
    """`alone`: TorchServe; `image`: the image's HAProxy and gRPC service in front of it."""
    address: str
    grpc_address: str


@pytest.fixture(scope="session", params=["alone", "image"])
def place(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if request.param == "alone":
        yield Place("alone", urlsplit(server.inference_url).netloc, server.grpc_inference_address)
        return
    with image_servers(tmp_path_factory.mktemp("proxy"), urlsplit(server.inference_url).port or 0, MODEL) as front:
        yield Place("image", urlsplit(front.url).netloc, front.grpc_address)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph of a cat, small enough for JSON; its pixels (H, W, 3) are beside it."""
    path = tmp_path_factory.mktemp("image") / "cat.png"
    with Image.open(ROOT / "examples" / "chelsea.jpg") as photograph:
        photograph.convert("RGB").reduce(2).save(path)
    with Image.open(path) as saved:
        np.save(path.with_suffix(".npy"), np.asarray(saved))
    return path
