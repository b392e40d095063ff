"""The command `scripts/environment.py`: create the environment `.venv` and install locked groups, each once.

Runs under any Python from 3.10 on, with the standard library only.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tools.paths import HANDLER, REQUIREMENTS, ROOT

MINIMUM_PYTHON = (3, 10)
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
# What a large group downloads.
SIZES = {"runtime": "downloads about 3 GB, mostly CUDA libraries"}


@contextmanager
def exclusive() -> Iterator[None]:
    """Lock the environment, so that two `make` at the same time do not install into each other."""
    with (ROOT / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def create() -> None:
    """Create an empty `.venv`.

    Raises:
        SystemExit: this Python has no working `venv` (Debian packages it separately).
    """
    print(f"Creating {VENV}", flush=True)
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    except subprocess.CalledProcessError:
        sys.exit("Python's venv module does not work here; on Debian and Ubuntu: apt-get install python3-venv")


def expose() -> None:
    """Make the checkout's packages importable: `gradcam` as in an archive, `tools`, and `lens`."""
    (site_packages,) = VENV.glob("lib/python*/site-packages")
    (site_packages / "handler.pth").write_text(f"{HANDLER}\n{ROOT}\n")


def install(group: str) -> None:
    """Install one locked group, unless exactly this lock is installed already.

    Raises:
        subprocess.CalledProcessError: pip failed.
    """
    lock = REQUIREMENTS / f"{group}.txt"
    stamp = VENV / f".installed-{group}"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    size = f" ({SIZES[group]})" if group in SIZES else ""
    print(f"Installing {lock.relative_to(ROOT)}{size}", end=" … ", flush=True)
    start = time.monotonic()
    # --no-deps: the lock is complete, and pip checks the hash of every file.
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--requirement", str(lock)]
    subprocess.run([str(PYTHON), "-m", "pip", "install", *options], check=True)
    print(f"{time.monotonic() - start:.0f} s", flush=True)
    stamp.write_text(digest)


def parse_groups(arguments: Sequence[str] | None) -> list[str]:
    """Return the groups to install, in the order of the command line.

    Raises:
        SystemExit: one does not exist, or there are none.
    """
    existing = sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))
    parser = argparse.ArgumentParser(description="Create .venv and install locked groups.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"one or more of {', '.join(existing)}")
    groups: list[str] = parser.parse_args(arguments).groups
    unknown = sorted(set(groups) - set(existing))
    if unknown or not groups:
        sys.exit(
            f"usage: environment.py GROUP…, one or more of {', '.join(existing)}; got {', '.join(unknown) or 'none'}"
        )
    return groups


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Raises:
        SystemExit: the groups or this Python do not fit, or pip failed.
    """
    groups = parse_groups(arguments)
    if sys.version_info < MINIMUM_PYTHON:
        minimum = ".".join(map(str, MINIMUM_PYTHON))
        sys.exit(
            f"Python {minimum} or newer is needed, this is {sys.version.split()[0]}: make PYTHON=python{minimum} …"
        )
    # If make was started in another environment, its modules must not be visible in this one.
    os.environ.pop("PYTHONPATH", None)
    with exclusive():
        if not PYTHON.exists():
            create()
        expose()
        for group in groups:
            try:
                install(group)
            except subprocess.CalledProcessError as error:
                sys.exit(
                    f"\npip could not install the group {group!r} (see its message above); exit {error.returncode}"
                )
    return 0
