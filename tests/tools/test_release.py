"""A release: version, changelog and tag, in a repository of its own."""

from __future__ import annotations

import datetime
import hashlib
import json
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from gradcam import __version__
from tools import release
from tools.paths import ROOT
from tools.release import ReleaseError

DAY = datetime.date(2027, 1, 31)
CHANGES = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A.\n\n## [0.1.0]\n\n- B.\n"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the files that a release changes."""
    for variable in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(variable, "tester@example.org")
    folder = tmp_path / "checkout"
    (folder / "handler" / "gradcam").mkdir(parents=True)
    (folder / "docs").mkdir()
    (folder / "handler" / "gradcam" / "__init__.py").write_text('"""Code."""\n\n__version__ = "0.1.0"\n')
    (folder / "docs" / "openapi.yaml").write_text("openapi: 3.1.0\ninfo:\n  version: 0.1.0\n")
    (folder / "CHANGELOG.md").write_text(CHANGES)
    (folder / ".gitignore").write_text("/build/\n")
    for command in ("init --quiet", "add .", "commit --quiet --message Begin"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)
    return folder


def test_the_version_is_stated_alike_everywhere() -> None:
    assert release.current_version(ROOT) == __version__
    assert yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())["info"]["version"] == __version__
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()


def test_unreleased_changes_get_the_version_and_the_date() -> None:
    expected = CHANGES.replace("## [Unreleased]\n", "## [Unreleased]\n\n## [0.2.0] - 2027-01-31\n")
    assert release.dated(CHANGES, "0.2.0", DAY) == expected
    with pytest.raises(ReleaseError, match="no changes"):
        release.dated(expected, "0.3.0", DAY)


@pytest.mark.parametrize("version", ["0.0.9", "0.1.0", "0.2", "v0.2.0", "0.2.0rc1"])
def test_an_unsuitable_version_is_rejected(checkout: Path, version: str) -> None:
    with pytest.raises(ReleaseError, match=f"^VERSION must .* got .?{version}"):
        release.check(checkout, version)


def test_a_checkout_with_changes_is_rejected(checkout: Path) -> None:
    (checkout / "new.txt").touch()
    with pytest.raises(ReleaseError, match=r"commit them first:\n\?\? new\.txt"):
        release.check(checkout, "0.2.0")


def test_a_release_is_committed_and_tagged(checkout: Path) -> None:
    release.check(checkout, "0.2.0")
    release.set_version(checkout, "0.2.0", DAY)
    release.commit(checkout, "0.2.0")
    assert release.git(checkout, "status", "--porcelain") == ""
    assert release.git(checkout, "describe").strip() == "v0.2.0"
    assert release.current_version(checkout) == "0.2.0"
    assert "version: 0.2.0\n" in (checkout / "docs" / "openapi.yaml").read_text()
    with pytest.raises(ReleaseError, match="must be higher"):
        release.check(checkout, "0.2.0")


def test_the_files_of_a_release(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def run(root: Path, *command: str) -> None:
        commands.append(command[0])
        if command[0] == "make":
            (root / "build").mkdir()
            (root / "build" / "sbom.json").write_text(json.dumps({"metadata": {"component": {"name": "g"}}}))

    monkeypatch.setattr(release, "run", run)
    release.set_version(checkout, "0.2.0", DAY)
    release.commit(checkout, "0.2.0")
    folder = tmp_path / "release"
    release.write_files(checkout, "0.2.0", folder)
    assert commands == ["scripts/build_mar.py", "make"]
    assert (folder / "SHA256SUMS").read_text().splitlines() == [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}"
        for name in ("gradcam-serving-0.2.0.sbom.json", "gradcam-serving-0.2.0.tar.gz")
    ]
    bill = json.loads((folder / "gradcam-serving-0.2.0.sbom.json").read_text())
    assert bill["metadata"]["component"] == {"name": "g", "version": "0.2.0"}
    with tarfile.open(folder / "gradcam-serving-0.2.0.tar.gz") as archive:
        assert "gradcam-serving-0.2.0/CHANGELOG.md" in archive.getnames()
