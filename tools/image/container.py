"""The command `scripts/image.py`: build the serving image with Docker if its engine runs, else with podman."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.paths import DOCKERFILE, ROOT

PODMAN_PACKAGES = ("podman", "runc", "catatonit")


class ContainerError(Exception):
    """There is no container engine, or one of its commands failed."""


@dataclass(frozen=True)
class ContainerEngine:
    """Docker or podman, whose commands are the same except for building."""

    command: str
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the engine and return its output.

        Raises:
            ContainerError: it failed, and `check` is true.
        """
        done = subprocess.run(
            [self.command, *arguments], env=os.environ | self.environment, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise ContainerError(f"{self.command} {' '.join(arguments)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done

    def has(self, image: str) -> bool:
        """Return whether the image exists on this machine."""
        return self("image", "inspect", image, check=False).returncode == 0

    def build(self, target: str, tag: str, options: Sequence[str] = ()) -> None:
        """Build a target of the Dockerfile; the terminal shows the progress.

        Args:
            target: of the Dockerfile.
            tag: of the image.
            options: further options of the engine's `build`.

        Raises:
            ContainerError: the build failed.
        """
        # Without Docker's format, podman drops the HEALTHCHECK.
        podman = ["--format", "docker", "--layers"] if self.command == "podman" else []
        command = [self.command, "build", "--target", target, "--tag", tag, *podman, *options, str(ROOT)]
        if subprocess.run(command, env=os.environ | self.environment, check=False).returncode:
            raise ContainerError(f"{tag} could not be built; see the message above")


def find_engine() -> ContainerEngine:
    """Return the engine with which images can be built and run here.

    Raises:
        ContainerError: there is none.
    """
    # Docker's client alone is not enough.
    if shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
        return ContainerEngine("docker", {"DOCKER_BUILDKIT": "1"})
    if shutil.which("podman"):
        return ContainerEngine("podman")
    raise ContainerError(
        "building and running images needs podman or a running Docker; "
        f"on Debian and Ubuntu: apt-get install --no-install-recommends {' '.join(PODMAN_PACKAGES)}"
    )


def base_image(dockerfile: Path = DOCKERFILE) -> str:
    """Return the image on which the Dockerfile is based."""
    match = re.search(r"^ARG BASE=(\S+)$", dockerfile.read_text(), re.MULTILINE)
    assert match is not None
    return match[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(description="Build the serving image with Docker or podman.")
    parser.add_argument("--target", default="cpu", help="target of the Dockerfile: cpu or gpu (default: %(default)s)")
    parser.add_argument("--tag", help="tag of the image (default: gradcam-serving:TARGET)")
    options = parser.parse_args(arguments)
    tag = options.tag or f"gradcam-serving:{options.target}"
    try:
        engine = find_engine()
        engine.build(options.target, tag)
        size = int(engine("image", "inspect", "--format", "{{.Size}}", tag).stdout)
    except ContainerError as error:
        print(f"image.py: {error}", file=sys.stderr)
        return 1
    print(f"{tag} ({size / 1e9:.1f} GB)")
    return 0
