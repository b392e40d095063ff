"""Types of command-line arguments that several commands share."""

from __future__ import annotations

import argparse
from urllib.parse import urlsplit


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
