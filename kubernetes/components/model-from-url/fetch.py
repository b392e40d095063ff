"""Download MODEL_URL into a folder as MODEL.mar; exit status 1 and no file unless its SHA-256 is MODEL_SHA256."""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.request
from pathlib import Path

TIMEOUT = 60.0
CHUNK = 2**20


def fetch(url: str, sha256: str, target: Path) -> None:
    """Download a file and check its hash; `target` exists only if both succeed.

    Raises:
        OSError: the download failed.
        ValueError: the file has a different hash.
    """
    digest = hashlib.sha256()
    partial = target.with_suffix(".partial")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as source, partial.open("wb") as file:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != sha256.lower():
            raise ValueError(f"The SHA-256 of {url} must be {sha256}, got {digest.hexdigest()}")
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


def main() -> int:
    """Run the command and return its exit status."""
    target = Path(sys.argv[1]) / f"{os.environ['MODEL']}.mar"
    try:
        fetch(os.environ["MODEL_URL"], os.environ["MODEL_SHA256"], target)
    except (OSError, ValueError) as error:
        print(f"Cannot download the model: {error}", file=sys.stderr)
        return 1
    print(f"{target}: {target.stat().st_size} bytes, SHA-256 verified")
    return 0


if __name__ == "__main__":
    sys.exit(main())
