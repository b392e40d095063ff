"""The command `scripts/demo.py`: weights, archive, server, and one photograph classified and explained."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from gradcam.network.architecture import NetworkError
from tools.archive.build import Build, build_with_fallback
from tools.client import predict
from tools.client.client import Client
from tools.client.files import find_images
from tools.paths import BUILD, EXAMPLE_IMAGE
from tools.server.errors import ServerError
from tools.server.port_check import free_port
from tools.server.server import Server
from tools.server.signals import INTERRUPTED, handle_signals

OVERLAYS = BUILD / "demo"
LOGS = BUILD / "logs" / "demo"

console = Console()


def build_archive(weights: str) -> Path:
    """Build the archive of ResNet-18, or of EfficientNet-Lite0 if the weights cannot be downloaded."""
    console.rule("1  Archive")
    return build_with_fallback(
        Build("resnet18", weights), lambda message: console.print(message, style="yellow", highlight=False)
    )


def explain_photograph(server: Server, model: str) -> int:
    """Explain the photograph, print the table, write the overlay; return the exit status."""
    console.rule("3  One photograph")
    images = find_images([Path(os.path.relpath(EXAMPLE_IMAGE))], OVERLAYS)
    with Client(server.inference_url, model) as client:
        return predict.run(client, images, {}, Path(os.path.relpath(OVERLAYS)))


def run(weights: str) -> int:
    """Run the demo and return its exit status.

    Raises:
        NetworkError: the archive cannot be built.
        ServerError: the server cannot be started.
    """
    archive = build_archive(weights)
    console.rule("2  TorchServe")
    with (
        console.status("Waiting for a worker that has loaded the model") as waiting,
        Server([archive], free_port(), LOGS) as server,
    ):
        waiting.stop()
        console.print(f"{archive.stem} is ready: {server.inference_url}/predictions/{archive.stem}")
        status = explain_photograph(server, archive.stem)
    console.rule("Done: the server is stopped")
    console.print("To keep one running:  make serve MODEL=" + archive.stem)
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(description="Build an archive, serve it, and classify and explain one photograph.")
    parser.add_argument("--weights", default="default", help="weights of ResNet-18, as for build_mar.py")
    options = parser.parse_args(arguments)
    handle_signals()
    try:
        return run(options.weights)
    except (NetworkError, ServerError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
