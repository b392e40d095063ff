"""The command `scripts/open_lens.py`: open the page on a TorchServe that runs already, or on a new one."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import requests

from gradcam.network.architecture import NetworkError
from tools import ports
from tools.archive.build import Build, build_with_fallback
from tools.paths import ROOT
from tools.ports import HOST
from tools.server.errors import ServerError
from tools.server.logs import log_dir_of
from tools.server.port_check import port_error
from tools.server.processes import PARENT_DEATH_WRAPPER, wait_until
from tools.server.server import HTTP_TIMEOUT, Server
from tools.server.signals import handle_signals
from tools.sessions import loopback_session

START_SECONDS = 30
STOP_SECONDS = 10


def answers(url: str) -> bool:
    """Return whether a server answers at this URL."""
    with loopback_session() as session:
        try:
            return session.get(url, timeout=HTTP_TIMEOUT).ok
        except requests.RequestException:
            return False


@contextmanager
def torchserve(port: int, model: str, weights: str) -> Iterator[None]:
    """Start a TorchServe for the block, unless one has the port already.

    Raises:
        ServerError: it cannot be started.
        NetworkError: there is no such model.
    """
    if answers(f"http://{HOST}:{port}/ping"):
        print(f"TorchServe runs at http://{HOST}:{port}", flush=True)
        yield
        return
    archive = build_with_fallback(Build(model, weights), lambda message: print(message, file=sys.stderr))
    print(f"Starting TorchServe with {archive.stem}, logs in {os.path.relpath(log_dir_of(port))}", flush=True)
    with Server([archive], port, log_dir_of(port)):
        yield


@contextmanager
def page(port: int, torchserve_port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Serve the page for the block.

    Raises:
        ServerError: the port is taken, or the page's server does not start.
    """
    if reason := port_error(port):
        raise ServerError(f"port {port} (the page): {reason}")
    addresses = {
        "LENS_PORT": str(port),
        "LENS_INFERENCE": f"http://{HOST}:{torchserve_port}",
        "LENS_MANAGEMENT": f"http://{HOST}:{torchserve_port + 1}",
    }
    process = subprocess.Popen(
        [*PARENT_DEATH_WRAPPER, sys.executable, "-m", "lens"],
        cwd=ROOT,
        env={**os.environ, **addresses},
        stdin=subprocess.PIPE,
        # Ctrl-C in the terminal reaches this program only, which then stops both servers in an orderly way.
        start_new_session=True,
    )
    try:
        ready = wait_until(lambda: process.poll() is not None or answers(f"http://{HOST}:{port}/health"), START_SECONDS)
        if not ready or process.poll() is not None:
            raise ServerError(f"the page's server did not start within {START_SECONDS} s")
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            assert process.stdin is not None
            process.stdin.close()


def open_browser(url: str) -> None:
    """Open the page in a desktop's browser; without a desktop there is none, or one that takes over the terminal."""
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(url)


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description="Open the page that shows explanations.")
    parser.add_argument(
        "--model", default="resnet18", help="architecture to serve if no TorchServe runs yet (default: %(default)s)"
    )
    parser.add_argument("--weights", default="default", help="as for build_mar.py")
    parser.add_argument("--port", type=int, default=ports.INFERENCE, help="port of TorchServe (default: %(default)s)")
    parser.add_argument("--lens-port", type=int, default=ports.LENS, help="port of the page (default: %(default)s)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = argument_parser().parse_args(arguments)
    handle_signals()
    try:
        with (
            torchserve(options.port, options.model, options.weights),
            page(options.lens_port, options.port) as process,
        ):
            url = f"http://{HOST}:{options.lens_port}/"
            print(f"The page is at {url}\nCtrl-C stops it.", flush=True)
            open_browser(url)
            process.wait()
            raise ServerError("the page's server ended unexpectedly")
    except KeyboardInterrupt:
        return 0
    except (NetworkError, ServerError) as error:
        print(f"open_lens.py: {error}", file=sys.stderr)
        return 1
