"""The Dockerfile, by its linter, and what goes into the image."""

from __future__ import annotations

import re
import subprocess

from tests.support.manifests import ROOT, tool


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([tool("hadolint"), "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_hadolint_finds_what_is_wrong() -> None:
    wrong = "FROM debian\nRUN apt-get update\n"
    done = subprocess.run([tool("hadolint"), "-"], input=wrong, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "DL3006" in done.stdout


def test_everything_that_is_copied_goes_to_the_build() -> None:
    text = (ROOT / "Dockerfile").read_text()
    sources = [name for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE) for name in line.split()[:-1]]
    assert {"handler", "metrics.yaml", "scripts/healthcheck.py"} <= set(sources)
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in sources:
        assert (ROOT / source).exists()
        assert any(f"{name}/".startswith(f"{source}/") or source.startswith(f"{name}/") for name in let_in), source
