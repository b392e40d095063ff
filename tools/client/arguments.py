"""Command-line arguments that several commands share: their types, and the options of a request."""

from __future__ import annotations

import argparse
from urllib.parse import urlsplit

from tools.client.endpoint import OptionValue

STYLES = ("blend", "heatmap", "gray", "outline")


def server_url(text: str) -> str:
    """Parse the address of a server.

    Raises:
        argparse.ArgumentTypeError: it is not an HTTP URL.
    """
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} is not a valid URL; write http://HOST:PORT")
    return text


def target_list(text: str) -> str:
    """Check the form of `--targets`; only the server knows which classes there are.

    Raises:
        argparse.ArgumentTypeError: an entry is empty.
    """
    if not all(target.strip() for target in text.split(",")):
        raise argparse.ArgumentTypeError(f'{text!r} has an empty class; write 281,"Egyptian cat"')
    return text


def class_count(text: str) -> int:
    """Parse `--topk`.

    Raises:
        argparse.ArgumentTypeError: it is not a positive integer.
    """
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of classes; write 1 or more")
    return int(text)


def explained_count(text: str) -> int:
    """Parse `--explain`.

    Raises:
        argparse.ArgumentTypeError: it is not an integer of at least 0.
    """
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of classes; write 0 or more")
    return int(text)


def share(text: str) -> float:
    """Parse a number between 0 and 1.

    Raises:
        argparse.ArgumentTypeError: it is not one.
    """
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return number


def header(text: str) -> tuple[str, str]:
    """Parse a header as `NAME:VALUE`.

    Raises:
        argparse.ArgumentTypeError: it has another form.
    """
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not text.isascii() or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is not a header; write 'Authorization: Bearer TOKEN'")
    return name.strip(), value.strip()


def add_header_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--header`; its value becomes a list of pairs."""
    parser.add_argument(
        "--header",
        action="append",
        type=header,
        default=[],
        metavar="NAME:VALUE",
        help="header of every request, such as 'Authorization: Bearer TOKEN'; may be repeated",
    )


def add_request_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a request (docs/requests.md) to a parser; `request_options` reads them."""
    group = parser.add_argument_group("options of the request for each image (docs/requests.md)")
    classes = group.add_mutually_exclusive_group()
    classes.add_argument(
        "--targets",
        type=target_list,
        metavar="CLASS,…",
        help="classes to explain, as index or label (default: the predicted one)",
    )
    classes.add_argument("--explain", type=explained_count, metavar="N", help="explain the N most probable classes")
    classes.add_argument(
        "--threshold", type=share, metavar="P", help="explain every class of at least this probability"
    )
    group.add_argument("--topk", type=class_count, metavar="N", help="number of classes to list (default: 5)")
    group.add_argument("--method", help="explanation method (default: the model's)")
    group.add_argument("--layer", metavar="NAME,…", help="layer to explain, or several to fuse (default: the model's)")
    group.add_argument("--versus", metavar="CLASS", help="explain why each class rather than this one")
    group.add_argument("--smooth", action="store_true", help="average over flipped and scaled versions of the image")
    group.add_argument("--boxes", type=share, metavar="SHARE", help="list regions above this share of the maximum")
    group.add_argument("--overlay", choices=("jpeg", "png", "none"), default="jpeg", help="default: %(default)s")
    group.add_argument("--style", choices=STYLES, help="what the overlay shows (default: blend)")
    group.add_argument("--caption", action="store_true", help="add a caption with a color legend to the overlay")
    group.add_argument("--colormap", metavar="NAME", help="color map of the overlay (default: jet)")
    group.add_argument("--alpha", type=share, help="opacity of the map in the overlay (default: 0.4)")


OPTIONS = (
    "targets",
    "explain",
    "threshold",
    "topk",
    "method",
    "layer",
    "versus",
    "smooth",
    "boxes",
    "overlay",
    "style",
    "caption",
    "colormap",
    "alpha",
)


def request_options(parsed: argparse.Namespace) -> dict[str, OptionValue]:
    """Return the options that the command line sets; the server has defaults for the others."""
    values = {name: getattr(parsed, name) for name in OPTIONS}
    return {name: value for name, value in values.items() if value is not None and value is not False}
