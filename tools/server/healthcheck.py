"""Tells whether a server can classify: has it classify and explain a picture, from the client's side.

    scripts/healthcheck.py --model resnet18 [--url http://127.0.0.1:8080]

TorchServe's own `/ping` says "Healthy" before any model is loaded, and while a model's worker is dead. This needs
nothing but Python, so that it runs in the serving image. Exit status: 0 it can, 1 it cannot, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import urllib.error
import urllib.request
import zlib
from typing import Any
from urllib.parse import quote

SIDE = 8
TIMEOUT = 10.0


def picture() -> bytes:
    """Returns a grey PNG, the smallest that is one."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)
    rows = (b"\0" + bytes([128]) * SIDE) * SIDE
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def check(url: str, model: str, timeout: float) -> str | None:
    """Has a picture classified and explained; returns what is wrong, or None."""
    request = urllib.request.Request(
        f"{url.rstrip('/')}/predictions/{quote(model, safe='')}",
        data=picture(),
        headers={"Content-Type": "image/png", "Gradcam-Topk": "1"},
        method="POST",
    )
    # A proxy is of no use on the way to a server in the same container.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as response:
            return problem(json.load(response))
    except urllib.error.HTTPError as error:
        with error:
            return f"HTTP {error.code}: {error.read(300).decode(errors='replace').strip()}"
    except (OSError, ValueError) as error:
        return str(error)


def problem(answer: Any) -> str | None:
    """Returns what is wrong with an answer, or None."""
    match answer:
        case {"predictions": [{"probability": float()}], "explanations": [{"heatmap": [[_, *_], *_]}]}:
            return None
        case _:
            return f"not the answer of a Grad-CAM model: {str(answer)[:200]}"


def main() -> int:
    """Runs the command and returns its exit status."""
    parser = argparse.ArgumentParser(description="Tells whether a server can classify and explain.")
    parser.add_argument("--model", default=os.environ.get("MODEL"), help="if not given, that of the variable MODEL")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the server (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="in seconds (default: %(default)s)")
    given = parser.parse_args()
    if not given.model:
        parser.error("--model NAME is needed where MODEL is not set")
    wrong = check(given.url, given.model, given.timeout)
    print(f"{given.model} can classify" if wrong is None else f"{given.model} cannot classify: {wrong}")
    return int(wrong is not None)
