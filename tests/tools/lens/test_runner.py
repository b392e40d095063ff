"""`make lens`: which TorchServe it takes, and that it leaves nothing behind. No TorchServe runs here."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tools.archive.build import Build
from tools.archive.download import WeightsUnavailable
from tools.lens import runner as open_lens
from tools.server.errors import ServerError
from tools.server.port_check import free_port
from tools.server.processes import wait_until
from tools.sessions import loopback_session


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Build]:
    """What would have been built; published weights of ResNet-18 cannot be had."""
    built: list[Build] = []

    def build(options: Build) -> Path:
        built.append(options)
        if options.arch == "resnet18":
            raise WeightsUnavailable("bring the file")
        return Path("store") / f"{options.arch}.mar"

    monkeypatch.setattr(open_lens, "build_if_needed", build)
    return built


@pytest.fixture
def running() -> Iterator[int]:
    """The port of something that answers /ping as TorchServe does."""

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


def test_a_running_server_is_taken(running: int, built: list[Build], capsys: pytest.CaptureFixture[str]) -> None:
    with open_lens.torchserve(running, "resnet18", "default"):
        assert f"runs at http://127.0.0.1:{running}" in capsys.readouterr().out
    assert built == []


def test_weights_that_cannot_be_had(built: list[Build], capsys: pytest.CaptureFixture[str]) -> None:
    assert open_lens.build_archive("resnet18", "default") == Path("store/efficientnet_lite0.mar")
    assert "bring the file" in capsys.readouterr().err


def test_the_page_is_there_inside_the_block_and_gone_behind_it(running: int) -> None:
    port = free_port()
    with loopback_session() as session, open_lens.page(port, running) as process:
        assert session.get(f"http://127.0.0.1:{port}/", timeout=10).headers["content-security-policy"]
        assert session.get(f"http://127.0.0.1:{port}/ping", timeout=10).status_code == 200
    assert process.returncode == -signal.SIGTERM, "ended in good order: nothing had to be killed"
    assert not open_lens.answers(f"http://127.0.0.1:{port}/health")


def test_the_page_goes_with_the_program_that_opened_it(running: int) -> None:
    port = free_port()
    code = f"import os, open_lens\nwith open_lens.page({port}, {running}): os._exit(9)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(open_lens.__file__).parent, check=False, timeout=60)
    assert wait_until(lambda: not open_lens.answers(f"http://127.0.0.1:{port}/health"), 5)


def test_a_taken_port_is_named(running: int) -> None:
    with pytest.raises(ServerError, match=rf"port {running} \(the page\)"), open_lens.page(running, 8080):
        pass
