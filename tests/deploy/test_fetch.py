"""The script that downloads an archive when a pod starts."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.support.manifests import KUBERNETES

FETCH = KUBERNETES / "components" / "model-from-url" / "fetch.py"
ARCHIVE = b"archive" * 400_000  # more than one chunk


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "any.mar").write_bytes(ARCHIVE)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder))) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/any.mar"
        server.shutdown()


def fetch(url: str, sha256: str, folder: Path) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    environment = os.environ | {"MODEL": "mine", "MODEL_URL": url, "MODEL_SHA256": sha256, "no_proxy": "*"}
    command = [sys.executable, str(FETCH), str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_archive_with_the_right_hash_is_stored_under_the_models_name(url: str, tmp_path: Path) -> None:
    completed = fetch(url, hashlib.sha256(ARCHIVE).hexdigest().upper(), tmp_path / "models")
    assert completed.returncode == 0, completed.stderr
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["mine.mar"]
    assert (tmp_path / "models" / "mine.mar").read_bytes() == ARCHIVE


def test_archive_with_another_hash_is_rejected(url: str, tmp_path: Path) -> None:
    completed = fetch(url, "0" * 64, tmp_path / "models")
    assert completed.returncode == 1
    assert hashlib.sha256(ARCHIVE).hexdigest() in completed.stderr
    assert list((tmp_path / "models").iterdir()) == []


def test_missing_archive_is_reported(url: str, tmp_path: Path) -> None:
    completed = fetch(f"{url}x", "0" * 64, tmp_path / "models")
    assert completed.returncode == 1
    assert "404" in completed.stderr
    assert list((tmp_path / "models").iterdir()) == []
