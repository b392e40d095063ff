"""The command line of the load test."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from tools.client.arguments import server_url
from tools.load.option_sets import OPTION_SETS
from tools.load.protocols import PROTOCOLS
from tools.paths import EXAMPLES

MAX_WEIGHT = 100


def weights(text: str, names: Iterable[str]) -> dict[str, int]:
    """Parse names with optional weights, such as `raw=3,form`."""
    parsed: dict[str, int] = {}
    for entry in text.split(","):
        name, _, weight = (part.strip() for part in entry.partition("="))
        if name not in names:
            raise argparse.ArgumentTypeError(f"must be one of {', '.join(names)}, got {name!r}")
        if not (weight or "1").isdecimal() or not 0 < int(weight or "1") <= MAX_WEIGHT:
            raise argparse.ArgumentTypeError(f"a weight must be an integer between 1 and {MAX_WEIGHT}, got {entry!r}")
        parsed[name] = int(weight or "1")
    return parsed


def header(text: str) -> tuple[str, str]:
    """Parse `Name: value`."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"must look like 'Authorization: Bearer …', got {text!r}")
    return name.strip(), value.strip()


def positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    """Return a parser of positive numbers."""

    def number(text: str) -> float:
        value = kind(text)
        if not 0 < value < math.inf:
            raise ValueError
        return value

    return number


def share(text: str) -> float:
    """Parse a number between 0 and 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


def argument_parser(report: Path) -> argparse.ArgumentParser:
    """Return the parser of the command line; `report` is the default path of the HTML report."""
    parser = argparse.ArgumentParser(
        description="Load a server with all kinds of requests, check every answer, and fail if the server is too slow "
        "or wrong.",
        epilog="Exit status: 0 within the limits; 1 a limit is exceeded, or no server; 2 wrong usage.",
    )
    parser.add_argument("--url", type=server_url, help="address of the server (default: start one)")
    parser.add_argument("--model", default="resnet18", help="name of the model; its architecture without --url")
    parser.add_argument("--users", type=positive(int), default=8, help="concurrent users (default: %(default)s)")
    parser.add_argument("--duration", type=positive(float), default=30, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument(
        "--images",
        "--pictures",
        type=Path,
        default=EXAMPLES,
        metavar="FOLDER",
        help="images to send (default: examples)",
    )
    for flags, names in ((("--protocols", "--doors"), PROTOCOLS), (("--options",), OPTION_SETS)):
        parser.add_argument(
            *flags,
            type=partial(weights, names=names),
            default=",".join(names),
            metavar="NAME=WEIGHT,…",
            help="default: %(default)s",
        )
    parser.add_argument("--header", type=header, action="append", default=[], help="'Name: value', for every request")
    parser.add_argument(
        "--max-p95", type=positive(float), default=2000, metavar="MS", help="fail above this (default: %(default)s)"
    )
    parser.add_argument(
        "--max-error-rate",
        type=share,
        default=0,
        metavar="SHARE",
        help="between 0 and 1; fail above this (default: %(default)s)",
    )
    parser.add_argument("--report", type=Path, default=report, help="default: build/load-test/report.html")
    return parser
