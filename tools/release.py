"""The command `scripts/release.py`: date the changelog, set the version, commit, tag, and write the release's files."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.paths import BUILD, ROOT

NAME = "gradcam-serving"
# The one place of the version, and the documents that have to repeat it.
VERSION_FILE = Path("handler/gradcam/__init__.py")
VERSIONS = {
    VERSION_FILE: re.compile(r'^(__version__ = ")(.+)(")$', re.MULTILINE),
    Path("docs/openapi.yaml"): re.compile(r"^(  version: )(.+)()$", re.MULTILINE),
}
CHANGELOG = Path("CHANGELOG.md")
UNRELEASED = "## [Unreleased]\n"
MODEL = "efficientnet_lite0"


class ReleaseError(Exception):
    """The checkout cannot be released; the message says why and what to do."""


def numbers(version: str) -> tuple[int, int, int]:
    """Return major, minor and patch of a version.

    Raises:
        ReleaseError: the version does not have the form 1.2.3.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ReleaseError(f"VERSION must have the form 1.2.3, got {version!r}")
    major, minor, patch = map(int, version.split("."))
    return major, minor, patch


def current_version(root: Path) -> str:
    """Return the version of the code."""
    match = VERSIONS[VERSION_FILE].search((root / VERSION_FILE).read_text(encoding="utf-8"))
    assert match is not None
    return match[2]


def dated(changelog: str, version: str, day: datetime.date) -> str:
    """Return the changelog with the unreleased changes under a version and a date.

    Raises:
        ReleaseError: there are no unreleased changes.
    """
    _, heading, rest = changelog.partition(UNRELEASED)
    changes = rest.partition("\n## [")[0]
    if not heading or not re.search(r"^- ", changes, re.MULTILINE):
        raise ReleaseError(f"{CHANGELOG} has no changes under {UNRELEASED.strip()!r}; describe what users notice")
    return changelog.replace(UNRELEASED, f"{UNRELEASED}\n## [{version}] - {day.isoformat()}\n", 1)


def check(root: Path, version: str) -> None:
    """Check that this version can be released from this checkout.

    Raises:
        ReleaseError: it cannot.
    """
    current = current_version(root)
    if numbers(version) <= numbers(current):
        raise ReleaseError(f"VERSION must be higher than {current}, the version of the code, got {version}")
    if changed := git(root, "status", "--porcelain").strip():
        raise ReleaseError(f"The checkout has changes; commit them first:\n{changed}")


def set_version(root: Path, version: str, day: datetime.date) -> None:
    """Write the version and the date into the files that state them."""
    path = root / CHANGELOG
    changelog = dated(path.read_text(encoding="utf-8"), version, day)
    path.write_text(changelog, encoding="utf-8")
    for file, pattern in VERSIONS.items():
        text, count = pattern.subn(rf"\g<1>{version}\g<3>", (root / file).read_text(encoding="utf-8"))
        assert count == 1, file
        (root / file).write_text(text, encoding="utf-8")


def commit(root: Path, version: str) -> None:
    """Commit the changed files and tag the commit."""
    git(root, "commit", "--quiet", "--message", f"Release {version}", *map(str, (CHANGELOG, *VERSIONS)))
    git(root, "tag", "--annotate", "--message", f"Release {version}", f"v{version}")


def write_files(root: Path, version: str, folder: Path) -> None:
    """Write the sources, an archive, the bill of materials of the runtime packages, and their checksums."""
    folder.mkdir(parents=True)
    name = f"{NAME}-{version}"
    git(root, "archive", "--prefix", f"{name}/", "--output", str(folder / f"{name}.tar.gz"), f"v{version}")
    run(root, "scripts/build_mar.py", "--arch", MODEL, "--output", str(folder))
    run(root, "make", "--no-print-directory", "sbom")
    document = json.loads((root / "build" / "sbom.json").read_text(encoding="utf-8"))
    document["metadata"]["component"]["version"] = version
    (folder / f"{name}.sbom.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


def git(root: Path, *arguments: str) -> str:
    """Run git in the checkout and return its output."""
    return subprocess.run(["git", *arguments], cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout


def run(root: Path, *command: str) -> None:
    """Run a command in the checkout."""
    subprocess.run(command, cwd=root, check=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(description="Commit and tag a release, and write its files to build/release.")
    parser.add_argument("version", metavar="VERSION", help="such as 0.2.0")
    version: str = parser.parse_args(arguments).version
    folder = BUILD / "release" / version
    try:
        check(ROOT, version)
        if folder.exists():
            raise ReleaseError(f"{folder.relative_to(ROOT)} exists already; remove it first")
        set_version(ROOT, version, datetime.date.today())
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 1
    commit(ROOT, version)
    write_files(ROOT, version, folder)
    print(f"{folder.relative_to(ROOT)}; publish with: git push --follow-tags")
    return 0
