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
from tools.client.endpoint import DEFAULT_MODEL
from tools.client.explained import explain_all
from tools.client.files import find_images
from tools.client.predict import Run
from tools.paths import BUILD, EXAMPLE_IMAGE
from tools.server.errors import ServerError
from tools.server.port_check import free_port
from tools.server.server import Server
from tools.server.signals import INTERRUPTED, handle_signals

OVERLAYS = BUILD / "demo"
LOGS = BUILD / "logs" / "demo"

console = Console()


def build_archive(model: str, weights: str) -> Path:
    """Build the archive of a network, or of EfficientNet-Lite0 if the weights cannot be downloaded.

    Args:
        model: an architecture, or the path of an archive, which is used as it is.
        weights: as for build_mar.py.
    """
    console.rule("1  Archive")
    if model.endswith(".mar"):
        console.print(model, highlight=False)
        return Path(model)
    return build_with_fallback(
        Build(model, weights), lambda message: console.print(message, style="yellow", highlight=False)
    )


def explain_photograph(server: Server, model: str) -> Run:
    """Explain the photograph, print the table, and write the overlay."""
    console.rule("3  One photograph")
    images = find_images([Path(os.path.relpath(EXAMPLE_IMAGE))], OVERLAYS)
    with Client(server.inference_url, model) as client:
        done = predict.run(explain_all(client, images, {}, Path(os.path.relpath(OVERLAYS))), len(images))
    predict.print_run(done, OVERLAYS)
    return done


def run(model: str, weights: str) -> int:
    """Run the demo and return its exit status.

    Raises:
        NetworkError: the archive cannot be built.
        ServerError: the server cannot be started.
    """
    archive = build_archive(model, weights)
    console.rule("2  TorchServe")
    with (
        console.status("Waiting for a worker that has loaded the model") as waiting,
        Server([archive], free_port(), LOGS) as server,
    ):
        waiting.stop()
        console.print(f"{archive.stem} is ready: {server.inference_url}/predictions/{archive.stem}")
        done = explain_photograph(server, archive.stem)
    console.rule("Done: the server is stopped")
    console.print("To keep one running:  make serve MODEL=" + (model if model.endswith(".mar") else archive.stem))
    for overlay in done.overlays:
        console.print(f"Open the overlay:     {overlay}", highlight=False, soft_wrap=True)
    return done.status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(description="Build an archive, serve it, and classify and explain one photograph.")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="an architecture, or an archive (default: %(default)s)")
    parser.add_argument("--weights", default="default", help="weights of the architecture, as for build_mar.py")
    options = parser.parse_args(arguments)
    handle_signals()
    try:
        return run(options.model, options.weights)
    except (NetworkError, ServerError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
