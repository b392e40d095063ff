"""What an archive's manifest tells, and versions that cannot be added; tests/server has a real server."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tools.server import management
from tools.server.management import ManagementError


@pytest.fixture
def locked() -> Iterator[str]:
    """A management API that answers every request with 405, as `enable_model_api=false` makes TorchServe do."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(405)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def own_archive(tmp_path: Path) -> Path:
    path = tmp_path / "x.mar"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("MAR-INF/MANIFEST.json", '{"model": {"modelName": "own", "modelVersion": "2.0"}}')
    return path


def test_identity_is_that_of_the_manifest(own_archive: Path) -> None:
    assert management.identity(own_archive) == ("own", "2.0")
    with pytest.raises(ManagementError, match="not a model archive"):
        management.identity(Path(__file__))


def test_a_version_that_is_not_accepted_leaves_no_file(own_archive: Path, locked: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    with pytest.raises(ManagementError, match="does not allow it"):
        management.add_version(locked, own_archive, store)
    assert list(store.iterdir()) == []


def test_an_existing_version_is_not_overwritten(own_archive: Path, locked: str, tmp_path: Path) -> None:
    (tmp_path / "own-2.0.mar").write_text("old")
    with pytest.raises(ManagementError, match=r"own-2\.0\.mar exists already"):
        management.add_version(locked, own_archive, tmp_path)
    assert (tmp_path / "own-2.0.mar").read_text() == "old"
