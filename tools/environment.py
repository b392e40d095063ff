"""Makes the environment `.venv` of this checkout and installs locked groups into it, each once.

usage: python3 scripts/environment.py runtime [demo] [dev]

Runs under any Python from 3.10 on, with the standard library only.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tools.paths import ROOT

MINIMUM_PYTHON = (3, 10)
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCKS = ROOT / "requirements"


@contextmanager
def exclusive() -> Iterator[None]:
    """Holds the environment for one process, so that two `make` at once do not install into each other."""
    with (ROOT / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def create() -> None:
    """Creates an empty `.venv` that can import `handler/` as the archive does.

    Raises:
        SystemExit: this Python has no working `venv` (Debian packs it apart).
    """
    print(f"Creating {VENV}", flush=True)
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    except subprocess.CalledProcessError:
        sys.exit("Python's venv module does not work here; on Debian and Ubuntu: apt-get install python3-venv")


def expose() -> None:
    """Make the checkout's packages importable: `gradcam` as in an archive, `tools` and `lens`."""
    (site_packages,) = VENV.glob("lib/python*/site-packages")
    (site_packages / "handler.pth").write_text(f"{ROOT / 'handler'}\n{ROOT}\n")


def install(group: str) -> None:
    """Installs one locked group, unless this very lock is installed already."""
    lock = LOCKS / f"{group}.txt"
    stamp = VENV / f".installed-{group}"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    print(f"Installing {lock.relative_to(ROOT)} into {VENV}", flush=True)
    # --no-deps: the lock is complete, and its hashes are checked for every file.
    options = ["--disable-pip-version-check", "--no-deps", "--require-hashes", "--requirement", str(lock)]
    subprocess.run([str(PYTHON), "-m", "pip", "install", *options], check=True)
    stamp.write_text(digest)


def main(groups: list[str]) -> None:
    """Makes the environment and installs the groups named, in that order."""
    known = sorted(path.stem for path in LOCKS.glob("*.txt"))
    unknown = sorted(set(groups) - set(known))
    if unknown or not groups:
        sys.exit(f"usage: environment.py GROUP…, one or more of {', '.join(known)}; not {', '.join(unknown) or 'none'}")
    if sys.version_info < MINIMUM_PYTHON:
        wanted = ".".join(map(str, MINIMUM_PYTHON))
        sys.exit(f"Python {wanted} or newer is needed, this is {sys.version.split()[0]}: make PYTHON=python{wanted} …")
    # A Python that runs make from inside another environment must not leak into this one.
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
                    f"pip could not install the group {group!r} (its message stands above); exit {error.returncode}"
                )
