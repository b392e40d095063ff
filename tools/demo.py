"""Everything once: weights, archive, server, and one photograph classified and explained."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rich.console import Console

from gradcam.network.architecture import EFFICIENTNET_LITE0, NetworkError
from tools.archive.build import Build, build_if_needed
from tools.archive.weights import WeightsUnavailable
from tools.client import client as predict
from tools.client.client import Options, Service
from tools.paths import ROOT
from tools.server.errors import ServerError
from tools.server.port_check import free_port
from tools.server.server import Server
from tools.server.signals import handle_signals

PHOTOGRAPH = ROOT / "examples" / "chelsea.jpg"
OVERLAYS = ROOT / "build" / "demo"
LOGS = ROOT / "build" / "logs" / "demo"

console = Console()


def build_archive(weights: str) -> Path:
    """Builds the archive of ResNet-18, or of EfficientNet-Lite0 where the weights cannot be downloaded."""
    console.rule("1  Archive")
    try:
        return build_if_needed(Build("resnet18", weights))
    except WeightsUnavailable as error:
        console.print(f"{error}\n", style="yellow", highlight=False)
        console.print("Going on with EfficientNet-Lite0, whose ImageNet weights are installed with the demo.")
    return build_if_needed(Build(EFFICIENTNET_LITE0))


def explain_photograph(server: Server, model: str) -> int:
    """Sends the photograph, prints the table, writes the overlay; returns the exit status."""
    console.rule("3  One photograph")
    service = Service(server.inference_url, model)
    pictures = predict.find_pictures([Path(os.path.relpath(PHOTOGRAPH))], OVERLAYS)
    return predict.run(service, pictures, Options(), Path(os.path.relpath(OVERLAYS)))


def main() -> int:
    """Runs the demo; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="default", help="of ResNet-18, as for build_mar.py")
    options = parser.parse_args()
    handle_signals()
    try:
        archive = build_archive(options.weights)
        console.rule("2  TorchServe")
        with (
            console.status("Waiting for a worker that has loaded the model") as waiting,
            Server([archive], free_port(), LOGS) as server,
        ):
            waiting.stop()
            console.print(f"{archive.stem} is ready: {server.inference_url}/predictions/{archive.stem}")
            status = explain_photograph(server, archive.stem)
    except (NetworkError, ServerError) as error:
        console.print(f"demo: {error}", style="red", highlight=False)
        return 1
    console.rule("Done: the server is stopped")
    console.print("To keep one running:  make serve MODEL=" + archive.stem)
    return status
