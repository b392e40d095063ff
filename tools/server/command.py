"""The command `scripts/serve.py`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tools import ports
from tools.paths import EXAMPLE_IMAGE
from tools.server.capacity import WorkerPlan
from tools.server.cors import cors_properties
from tools.server.errors import ServerError
from tools.server.logs import log_dir_of
from tools.server.server import Server
from tools.server.signals import handle_signals


def announce(server: Server) -> None:
    """Print the models' addresses, each with an example request."""
    example = os.path.relpath(EXAMPLE_IMAGE)
    for model in server.models:
        url = f"{server.inference_url}/predictions/{model}"
        print(f"{model} is ready: {url}\n  curl -F data=@{example} {url}", flush=True)
    print("Ctrl-C stops the server.", flush=True)


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description="Serve model archives with TorchServe until Ctrl-C.")
    parser.add_argument("archives", metavar="ARCHIVE.mar", nargs="+", type=Path)
    parser.add_argument(
        "--port",
        type=int,
        default=ports.INFERENCE,
        help="port of the inference API (default: %(default)s); the next four ports are used as well",
    )
    parser.add_argument(
        "--cors",
        metavar="ORIGIN",
        help="let web pages of this origin, such as https://app.example, call the server; '*': all pages",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = argument_parser().parse_args(arguments)
    log_dir = log_dir_of(options.port)
    handle_signals()
    try:
        print(f"Starting TorchServe, logs in {os.path.relpath(log_dir)}", flush=True)
        settings = {} if options.cors is None else cors_properties(options.cors)
        with Server(options.archives, options.port, log_dir, WorkerPlan.of_machine(), settings) as server:
            announce(server)
            server.wait()
    except KeyboardInterrupt:
        return 0
    except ServerError as error:
        print(f"serve.py: {error}", file=sys.stderr)
        return 1
    return 0
