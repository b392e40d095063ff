"""The command `scripts/healthcheck.py`: send a test image and check that the model classifies and explains it.

TorchServe's own `/ping` reports "Healthy" before any model is loaded, and while a model's worker is dead. This module
uses nothing but Python's standard library and `tools.ports`, so that it runs in the serving image.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from tools import ports

SIDE = 8  # pixels
TIMEOUT = 10.0  # seconds


def gray_png() -> bytes:
    """Return a small, uniformly gray PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)
    rows = (b"\0" + bytes([128]) * SIDE) * SIDE
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def check(url: str, model: str, timeout: float = TIMEOUT) -> str | None:
    """Classify and explain a test image; return what is wrong, or None.

    Args:
        url: of the inference API.
        model: name of the model.
        timeout: in seconds.
    """
    return check_endpoint(f"{url.rstrip('/')}/predictions/{quote(model, safe='')}", timeout)


def check_endpoint(endpoint: str, timeout: float = TIMEOUT) -> str | None:
    """Do what `check` does, at a full address such as that of one version of a model."""
    request = urllib.request.Request(
        endpoint,
        data=gray_png(),
        headers={"Content-Type": "image/png", "Gradcam-Topk": "1"},
        method="POST",
    )
    # A proxy from the environment cannot reach a server in the same container.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as response:
            return answer_error(json.load(response))
    except urllib.error.HTTPError as error:
        with error:
            return f"HTTP {error.code}: {error.read(300).decode(errors='replace').strip()}"
    except (OSError, ValueError) as error:
        return str(error)


def answer_error(answer: Any) -> str | None:
    """Return what is wrong with an answer, or None."""
    match answer:
        case {"predictions": [{"probability": float()}], "explanations": [{"heatmap": [[_, *_], *_]}]}:
            return None
        case _:
            return f"the response is not that of a Grad-CAM model: {str(answer)[:200]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        description="Check that a server can classify and explain an image.",
        epilog="Exit status: 0 it can, 1 it cannot, 2 wrong usage.",
    )
    parser.add_argument(
        "--model", default=os.environ.get("MODEL"), help="name of the model (default: the environment variable MODEL)"
    )
    parser.add_argument("--url", default=ports.INFERENCE_URL, help="address of the server (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="in seconds (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not options.model:
        parser.error("--model NAME is required unless the environment variable MODEL is set")
    error = check(options.url, options.model, options.timeout)
    print(f"{options.model} can classify" if error is None else f"{options.model} cannot classify: {error}")
    return int(error is not None)
