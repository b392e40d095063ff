"""The command `scripts/environment.py`: create the environment `.venv` and install locked groups, each once.

With `--exact`, which `make lint` and the lanes of tests use, `.venv` then consists of these groups and nothing else.
Runs under any Python from 3.10 on, with the standard library only.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.paths import HANDLER, REQUIREMENTS, ROOT

MINIMUM_PYTHON = (3, 10)
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
# What a large group downloads.
SIZES = {"runtime": "downloads about 3 GB, mostly CUDA libraries"}
# Packages that come with every environment.
BASIC = {"pip", "setuptools"}


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


def lock_of(group: str) -> Path:
    """Return the lock file of a group."""
    return REQUIREMENTS / f"{group}.txt"


def stamp_of(group: str) -> Path:
    """Return the file that holds the digest of the lock that was installed."""
    return VENV / f".installed-{group}"


def is_installed(group: str) -> bool:
    """Return whether exactly the group's present lock is installed."""
    lock, stamp = lock_of(group), stamp_of(group)
    return lock.exists() and stamp.exists() and stamp.read_text() == hashlib.sha256(lock.read_bytes()).hexdigest()


def packages(group: str) -> set[str]:
    """Return the normalized names of the packages in a group's lock."""
    return {normalized(name) for name in re.findall(r"^([\w.-]+)==", lock_of(group).read_text(), re.MULTILINE)}


def normalized(name: str) -> str:
    """Return the name of a package as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def remove_all_but(groups: Sequence[str]) -> None:
    """Uninstall every package of no group, if the environment has had other groups or other locks.

    Raises:
        subprocess.CalledProcessError: pip failed.
    """
    present = {stamp.name.removeprefix(".installed-") for stamp in VENV.glob(".installed-*")}
    if present <= set(groups) and all(is_installed(group) for group in present):
        return
    frozen = subprocess.run(
        [str(PYTHON), "-m", "pip", "list", "--disable-pip-version-check", "--format", "freeze"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    kept = BASIC.union(*(packages(group) for group in groups))
    extra = [name for name in (line.partition("==")[0] for line in frozen.split()) if normalized(name) not in kept]
    if extra:
        print(f"Uninstalling {len(extra)} packages of other groups", flush=True)
        subprocess.run([str(PYTHON), "-m", "pip", "uninstall", "--quiet", "--yes", *extra], check=True)
    # Another group or lock may have brought another version of a package, which installing again replaces.
    for group in present:
        stamp_of(group).unlink()


def install(group: str) -> None:
    """Install one locked group, unless exactly this lock is installed already.

    Raises:
        subprocess.CalledProcessError: pip failed.
    """
    if is_installed(group):
        return
    lock = lock_of(group)
    size = f" ({SIZES[group]})" if group in SIZES else ""
    print(f"Installing {lock.relative_to(ROOT)}{size}", end=" … ", flush=True)
    start = time.monotonic()
    # --no-deps: the lock is complete, and pip checks the hash of every file.
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--requirement", str(lock)]
    subprocess.run([str(PYTHON), "-m", "pip", "install", *options], check=True)
    print(f"{time.monotonic() - start:.0f} s", flush=True)
    stamp_of(group).write_text(hashlib.sha256(lock.read_bytes()).hexdigest())


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        SystemExit: one does not exist, or there are none.
    """
    existing = sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))
    parser = argparse.ArgumentParser(description="Create .venv and install locked groups.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"one or more of {', '.join(existing)}")
    parser.add_argument("--exact", action="store_true", help="uninstall every package of no GROUP")
    parsed = parser.parse_args(arguments)
    groups: list[str] = parsed.groups
    unknown = sorted(set(groups) - set(existing))
    if unknown or not groups:
        sys.exit(
            f"usage: environment.py GROUP…, one or more of {', '.join(existing)}; got {', '.join(unknown) or 'none'}"
        )
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Raises:
        SystemExit: the groups or this Python do not fit, or pip failed.
    """
    parsed = parse(arguments)
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
        try:
            if parsed.exact:
                remove_all_but(parsed.groups)
        except subprocess.CalledProcessError as error:
            sys.exit(f"\npip could not uninstall packages (see its message above); exit {error.returncode}")
        for group in parsed.groups:
            try:
                install(group)
            except subprocess.CalledProcessError as error:
                sys.exit(
                    f"\npip could not install the group {group!r} (see its message above); exit {error.returncode}"
                )
    return 0
