"""Fetches MODEL_URL into a folder as MODEL.mar, if its SHA-256 is MODEL_SHA256; exit status 1 and no file if not."""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.request
from pathlib import Path

TIMEOUT = 60.0
CHUNK = 2**20


def fetch(url: str, sha256: str, target: Path) -> None:
    """Writes what is at `url` to `target`, which is there whole and right or not at all.

    Raises:
        OSError: it cannot be fetched.
        ValueError: the hash is another.
    """
    digest = hashlib.sha256()
    partial = target.with_suffix(".partial")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as source, partial.open("wb") as file:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != sha256.lower():
            raise ValueError(f"{url} has the SHA-256 {digest.hexdigest()}, not {sha256}")
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


def main() -> int:
    """Runs the command and returns its exit status."""
    target = Path(sys.argv[1]) / f"{os.environ['MODEL']}.mar"
    try:
        fetch(os.environ["MODEL_URL"], os.environ["MODEL_SHA256"], target)
    except (OSError, ValueError) as error:
        print(f"The model cannot be fetched: {error}", file=sys.stderr)
        return 1
    print(f"{target}: {target.stat().st_size} bytes, its hash is right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
