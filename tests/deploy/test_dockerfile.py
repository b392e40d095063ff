"""The Dockerfile: its linter, and the files copied into the image."""

from __future__ import annotations

import re
import subprocess

from tests.support.manifests import tool
from tools.paths import ROOT


def test_hadolint_finds_nothing() -> None:
    completed = subprocess.run([tool("hadolint"), "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "", "")


def test_hadolint_reports_a_bad_dockerfile() -> None:
    bad = "FROM debian\nRUN apt-get update\n"
    completed = subprocess.run([tool("hadolint"), "-"], input=bad, capture_output=True, text=True, check=False)
    assert completed.returncode == 1
    assert "DL3006" in completed.stdout


def test_dockerignore_admits_every_copied_file() -> None:
    text = (ROOT / "Dockerfile").read_text()
    sources = [name for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE) for name in line.split()[:-1]]
    assert {"handler", "metrics.yaml", "scripts/healthcheck.py"} <= set(sources)
    admitted = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in sources:
        assert (ROOT / source).exists()
        assert any(f"{name}/".startswith(f"{source}/") or source.startswith(f"{name}/") for name in admitted), source
