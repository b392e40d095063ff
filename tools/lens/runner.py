"""Opens the page that shows explanations, on a TorchServe that runs already or on one that it starts.

    scripts/open_lens.py [--model resnet18] [--weights default] [--port 8080] [--lens-port 8090]

Ctrl-C stops the page, and the TorchServe that was started for it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests

from gradcam.network.architecture import EFFICIENTNET_LITE0, NetworkError
from tools.archive.build import Build, build_if_needed
from tools.archive.weights import WeightsUnavailable
from tools.paths import ROOT
from tools.ports import HOST
from tools.server.errors import ServerError
from tools.server.logs import log_dir_of
from tools.server.port_check import port_error
from tools.server.processes import PARENT_DEATH_WRAPPER, wait_until
from tools.server.server import HTTP_TIMEOUT, Server
from tools.server.signals import handle_signals

START_SECONDS = 30
STOP_SECONDS = 10


def answers(url: str) -> bool:
    """Tells whether a server is there."""
    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.get(url, timeout=HTTP_TIMEOUT).ok
        except requests.RequestException:
            return False


def build_archive(model: str, weights: str) -> Path:
    """Builds the model's archive, or EfficientNet-Lite0's where published weights cannot be downloaded."""
    try:
        return build_if_needed(Build(model, weights))
    except WeightsUnavailable as error:
        print(f"{error}\n\nGoing on with EfficientNet-Lite0, whose ImageNet weights are a package.", file=sys.stderr)
    return build_if_needed(Build(EFFICIENTNET_LITE0))


@contextmanager
def torchserve(port: int, model: str, weights: str) -> Iterator[None]:
    """Starts a TorchServe, unless one has the port already.

    Raises:
        ServerError: it cannot be started.
        NetworkError: there is no such model.
    """
    if answers(f"http://{HOST}:{port}/ping"):
        print(f"TorchServe runs at http://{HOST}:{port}", flush=True)
        yield
        return
    archive = build_archive(model, weights)
    print(f"Starting TorchServe with {archive.stem}, logs in {os.path.relpath(log_dir_of(port))}", flush=True)
    with Server([archive], port, log_dir_of(port)):
        yield


@contextmanager
def page(port: int, torchserve_port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Serves the page.

    Raises:
        ServerError: the port is taken, or its server does not start.
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
        # A Ctrl-C in the terminal is for this program alone, which then stops both in good order.
        start_new_session=True,
    )
    try:
        ready = wait_until(lambda: process.poll() is not None or answers(f"http://{HOST}:{port}/health"), START_SECONDS)
        if not ready or process.poll() is not None:
            raise ServerError("the page's server did not start")
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


def show(url: str) -> None:
    """Opens the page in the browser of a desktop; elsewhere there is none, or one that takes the terminal."""
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(url)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the command's arguments."""
    parser = argparse.ArgumentParser(description="Opens the page that shows explanations.")
    parser.add_argument("--model", default="resnet18", help="served where none runs yet (default: %(default)s)")
    parser.add_argument("--weights", default="default", help="as for build_mar.py")
    parser.add_argument("--port", type=int, default=8080, help="of TorchServe (default: %(default)s)")
    parser.add_argument("--lens-port", type=int, default=8090, help="of the page (default: %(default)s)")
    return parser.parse_args(arguments)


def main() -> int:
    """Runs the command and returns its exit status."""
    given = parse()
    handle_signals()
    try:
        with torchserve(given.port, given.model, given.weights), page(given.lens_port, given.port) as process:
            url = f"http://{HOST}:{given.lens_port}/"
            print(f"The page is at {url}\nCtrl-C stops it.", flush=True)
            show(url)
            process.wait()
            raise ServerError("the page's server ended by itself")
    except KeyboardInterrupt:
        return 0
    except (NetworkError, ServerError) as error:
        print(f"open_lens.py: {error}", file=sys.stderr)
        return 1
