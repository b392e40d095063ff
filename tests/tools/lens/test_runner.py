"""`make lens`: which TorchServe it uses, and that it leaves nothing behind. No TorchServe runs here."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tools.archive import build as archives
from tools.archive.build import Build
from tools.archive.download import WeightsUnavailable
from tools.lens import runner
from tools.server.errors import ServerError
from tools.server.port_check import free_port
from tools.server.processes import wait_until
from tools.sessions import loopback_session


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Build]:
    """The archives that would have been built; ResNet-18's weights cannot be downloaded."""
    built: list[Build] = []

    def build(options: Build) -> Path:
        built.append(options)
        if options.arch == "resnet18":
            raise WeightsUnavailable("provide the file")
        return Path("store") / f"{options.arch}.mar"

    monkeypatch.setattr(archives, "build_if_needed", build)
    return built


@pytest.fixture
def running() -> Iterator[int]:
    """The port of a server that answers /ping as TorchServe does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/ping" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_running_server_is_used(running: int, built: list[Build], capsys: pytest.CaptureFixture[str]) -> None:
    with runner.torchserve(running, "resnet18", "default"):
        assert f"runs at http://127.0.0.1:{running}" in capsys.readouterr().out
    assert built == []


def test_weights_that_cannot_be_downloaded_have_a_substitute(built: list[Build]) -> None:
    warnings: list[str] = []
    archive = archives.build_with_fallback(Build("resnet18"), warnings.append)
    assert archive == Path("store/efficientnet_lite0.mar")
    (warning,) = warnings
    assert warning.startswith("provide the file\n")


def test_the_page_exists_inside_the_block_only(running: int) -> None:
    port = free_port()
    with loopback_session() as session, runner.page(port, running) as process:
        assert session.get(f"http://127.0.0.1:{port}/", timeout=10).headers["content-security-policy"]
        assert session.get(f"http://127.0.0.1:{port}/ping", timeout=10).status_code == 200
    assert process.returncode == -signal.SIGTERM, "stopped in an orderly way: nothing had to be killed"
    assert not runner.answers(f"http://127.0.0.1:{port}/health")


@pytest.mark.slow
def test_the_page_ends_with_the_program_that_opened_it(running: int) -> None:
    port = free_port()
    code = f"import os\nfrom tools.lens import runner\nwith runner.page({port}, {running}): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 9
    assert wait_until(lambda: not runner.answers(f"http://127.0.0.1:{port}/health"), 5)


def test_a_taken_port_is_named(running: int) -> None:
    with pytest.raises(ServerError, match=rf"port {running} \(the page\)"), runner.page(running, 8080):
        pass
