"""Builds the serving image, with Docker where its engine runs, else with podman.

    scripts/image.py [--target cpu|gpu] [--tag gradcam-serving:cpu] [--prepare]

`--prepare` is for a bare Debian, as a CI machine is: it installs podman with apt-get if neither is there, and where no
image registry can be reached makes the base image from Debian's own packages, under the name that the Dockerfile has.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tools.paths import ROOT

DOCKERFILE = ROOT / "Dockerfile"
PODMAN_PACKAGES = ("podman", "runc", "catatonit", "debootstrap")
BASE_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
# What podman needs where systemd does not run, as inside of another container.
WITHOUT_SYSTEMD = """\
[containers]
default_ulimits=["nofile=20000:20000","nproc=4096:4096"]
[engine]
runtime="runc"
cgroup_manager="cgroupfs"
events_logger="file"
"""


class ImageError(Exception):
    """There is nothing to build images with, or a command of it failed."""


@dataclass(frozen=True)
class Engine:
    """Docker or podman, whose commands are the same but for building."""

    command: str
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command of the engine and returns what it wrote.

        Raises:
            ImageError: it failed, and `check` is true.
        """
        done = subprocess.run(
            [self.command, *arguments], env=os.environ | self.environment, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise ImageError(f"{self.command} {' '.join(arguments)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done

    def has(self, image: str) -> bool:
        """Tells whether the image is there, without a registry."""
        return self("image", "inspect", image, check=False).returncode == 0

    def build(self, target: str, tag: str) -> None:
        """Builds a target of the Dockerfile; the terminal shows how it goes.

        Raises:
            ImageError: it cannot be built.
        """
        options = ["--target", target, "--tag", tag]
        if self.command == "podman":
            # Without the format the HEALTHCHECK is dropped.
            options += ["--format", "docker", "--layers", "--isolation", "chroot", "--network", "host", *_trusted()]
        command = [self.command, "build", *options, str(ROOT)]
        if subprocess.run(command, env=os.environ | self.environment, check=False).returncode:
            raise ImageError(f"{tag} could not be built; the message stands above")


def find_engine() -> Engine:
    """Returns what images can be built and run with here.

    Raises:
        ImageError: there is nothing.
    """
    # The client alone is of no use.
    if shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
        return Engine("docker", {"DOCKER_BUILDKIT": "1"})
    if not shutil.which("podman"):
        raise ImageError(
            "a running Docker, or podman, is needed to build and run images; "
            f"on Debian and Ubuntu: apt-get install --no-install-recommends {' '.join(PODMAN_PACKAGES)}"
        )
    if Path("/run/systemd/system").exists():
        return Engine("podman")
    config = ROOT / "build" / "containers.conf"
    config.parent.mkdir(exist_ok=True)
    config.write_text(WITHOUT_SYSTEMD)
    return Engine("podman", {"CONTAINERS_CONF": str(config), "STORAGE_DRIVER": "overlay"})


def prepare() -> Engine:
    """Returns an engine that has the base image, installed and made if need be.

    Raises:
        ImageError: that is not possible here.
    """
    try:
        engine = find_engine()
    except ImageError:
        if os.geteuid() or not shutil.which("apt-get"):
            raise
        _show("apt-get", "update", "--quiet", "--quiet")
        _show("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *PODMAN_PACKAGES)
        engine = find_engine()
    base = base_image()
    if not engine.has(base) and engine("pull", base, check=False).returncode:
        print(f"{base} cannot be pulled; making a stand-in of Debian's packages", flush=True)
        _make_base(engine, base)
    return engine


def base_image() -> str:
    """Returns the image that the Dockerfile begins with."""
    match = re.search(r"^ARG BASE=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert match is not None
    return match[1]


def _make_base(engine: Engine, name: str) -> None:
    """Makes an image of a minimal Debian with its Python where the official image has it."""
    if os.geteuid() or not shutil.which("debootstrap"):
        raise ImageError(f"{name} cannot be pulled, and to make a stand-in debootstrap and root are needed")
    with tempfile.TemporaryDirectory(prefix="base-") as folder:
        root, archive = Path(folder) / "root", Path(folder) / "root.tar"
        _show("debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", name.rpartition("-")[2], str(root))
        for python in ("python", "python3"):
            (root / "usr/local/bin" / python).symlink_to("/usr/bin/python3")
        for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            marker.unlink()
        _show("tar", "-C", str(root), "--exclude=./dev/*", "--exclude=./var/lib/apt/lists/*", "-cf", str(archive), ".")
        path = "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        engine("import", "--change", path, str(archive), name)


def _trusted() -> list[str]:
    """Returns the options that give a build this machine's certificates and its configuration of pip."""
    files = [Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pip.conf")]
    return [option for file in files if file.is_file() for option in ("--volume", f"{file}:{file}:ro")]


def _show(*command: str) -> None:
    if subprocess.run(command, check=False).returncode:
        raise ImageError(f"{command[0]} failed; its message stands above")


def main() -> int:
    """Runs the command and returns its exit status."""
    parser = argparse.ArgumentParser(description="Builds the serving image with Docker or podman.")
    parser.add_argument("--target", default="cpu", help="of the Dockerfile: cpu, gpu (default: %(default)s)")
    parser.add_argument("--tag", help="gradcam-serving:TARGET if not given")
    parser.add_argument("--prepare", action="store_true", help="install podman and make the base image if need be")
    given = parser.parse_args()
    tag = given.tag or f"gradcam-serving:{given.target}"
    try:
        engine = prepare() if given.prepare else find_engine()
        engine.build(given.target, tag)
        size = int(engine("image", "inspect", "--format", "{{.Size}}", tag).stdout)
    except ImageError as error:
        print(f"image.py: {error}", file=sys.stderr)
        return 1
    print(f"{tag} ({size / 1e9:.1f} GB)")
    return 0
