#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Build the serving image on a bare Debian build machine, then run a command in the same environment.

    .ci/prepare_image.py [COMMAND...]

It installs podman with apt-get if there is no container engine, configures it for machines without systemd, and makes
the base image from Debian's packages if no registry can be reached. COMMAND inherits that configuration.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.image.container import PODMAN_PACKAGES, ContainerEngine, ContainerError, base_image, find_engine
from tools.paths import BUILD

TARGET, TAG = "cpu", "gradcam-serving:cpu"
BASE_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
# What podman needs without systemd, such as inside another container.
WITHOUT_SYSTEMD = """\
[containers]
default_ulimits=["nofile=20000:20000","nproc=4096:4096"]
[engine]
runtime="runc"
cgroup_manager="cgroupfs"
events_logger="file"
"""


def prepare() -> ContainerEngine:
    """Return an engine that has the base image; install the engine and make the image if necessary.

    Raises:
        ContainerError: that is not possible here.
    """
    try:
        engine = find_engine()
    except ContainerError:
        if os.geteuid() or not shutil.which("apt-get"):
            raise
        show("apt-get", "update", "--quiet", "--quiet")
        packages = (*PODMAN_PACKAGES, "debootstrap")
        show("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages)
        engine = find_engine()
    if engine.command == "podman" and not Path("/run/systemd/system").exists():
        configure_without_systemd()
    base = base_image()
    if not engine.has(base) and engine("pull", base, check=False).returncode:
        print(f"{base} cannot be pulled; making a substitute from Debian's packages", flush=True)
        make_base(engine, base)
    return engine


def configure_without_systemd() -> None:
    """Write a configuration of podman, and name it in the environment of this process and its children."""
    config = BUILD / "containers.conf"
    config.parent.mkdir(exist_ok=True)
    config.write_text(WITHOUT_SYSTEMD)
    os.environ |= {"CONTAINERS_CONF": str(config), "STORAGE_DRIVER": "overlay"}


def make_base(engine: ContainerEngine, name: str) -> None:
    """Make an image of a minimal Debian with Python at the paths of the official image.

    Raises:
        ContainerError: it cannot be made here.
    """
    if os.geteuid() or not shutil.which("debootstrap"):
        raise ContainerError(f"{name} cannot be pulled, and making a substitute needs debootstrap and root")
    with tempfile.TemporaryDirectory(prefix="base-") as folder:
        root, archive = Path(folder) / "root", Path(folder) / "root.tar"
        show("debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", name.rpartition("-")[2], str(root))
        for python in ("python", "python3"):
            (root / "usr/local/bin" / python).symlink_to("/usr/bin/python3")
        for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            marker.unlink()
        show("tar", "-C", str(root), "--exclude=./dev/*", "--exclude=./var/lib/apt/lists/*", "-cf", str(archive), ".")
        path = "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        engine("import", "--change", path, str(archive), name)


def build_options(engine: ContainerEngine) -> list[str]:
    """Return the options with which podman builds here: no nested namespaces, this machine's certificates and pip."""
    if engine.command != "podman":
        return []
    files = [Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pip.conf")]
    volumes = [option for file in files if file.is_file() for option in ("--volume", f"{file}:{file}:ro")]
    return ["--isolation", "chroot", "--network", "host", *volumes]


def show(*command: str) -> None:
    """Run a command whose output goes to the terminal.

    Raises:
        ContainerError: it failed.
    """
    if subprocess.run(command, check=False).returncode:
        raise ContainerError(f"{command[0]} failed; see its message above")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(description="Build the serving image on a bare Debian, then run a command.")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="to run with the same engine")
    options = parser.parse_args(arguments)
    try:
        engine = prepare()
        engine.build(TARGET, TAG, build_options(engine))
    except ContainerError as error:
        print(f"prepare_image.py: {error}", file=sys.stderr)
        return 1
    if options.command:
        return subprocess.run(options.command, check=False).returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
