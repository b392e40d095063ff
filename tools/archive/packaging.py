"""The files of an archive: what is packed, torch-model-archiver, and delivery in one step."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save_file
from torch import nn

HANDLER_FILE = "gradcam_handler.py"
WEIGHTS_FILE = "weights.safetensors"
CONFIG_FILE = "model-config.yaml"
MODEL_FILE = "served_network.py"

# What TorchServe's frontend reads from model-config.yaml.
FRONTEND = {
    # Without minWorkers and maxWorkers, which depend on the machine: its server sets them.
    "batchSize": 8,
    # Milliseconds to wait for a batch to fill. Under load it fills while the previous batch is processed; a single
    # request should not wait. 0 would mean 100.
    "maxBatchDelay": 1,
    # Seconds.
    "responseTimeout": 60,
    "startupTimeout": 300,
}


class ArchiverError(Exception):
    """torch-model-archiver failed."""


@dataclass(frozen=True)
class Parts:
    """The files from which torch-model-archiver makes an archive."""

    handler: str | Path
    """A Python file, or the name of one of TorchServe's own handlers."""
    weights: Path
    config: Path
    """The `model-config.yaml`."""
    extra_files: Path
    """A file, or a folder whose content goes to the archive's root."""
    model_file: Path | None = None
    """Python file with the network, for handlers that need one."""


def copy_code(source: Path, target: Path) -> None:
    """Copy a folder of Python modules with its sub-packages, leaving everything else out."""
    shutil.copytree(source, target, ignore=excluded_from_archive)


def excluded_from_archive(folder: str, names: Sequence[str]) -> list[str]:
    """Return what stays out of the archive: caches, hidden files and folders, and files other than `.py`."""
    return [
        name
        for name in names
        if name.startswith(".") or name == "__pycache__" or not (name.endswith(".py") or (Path(folder) / name).is_dir())
    ]


def write_weights(path: Path, model: nn.Module) -> str:
    """Write the weights and return the file's SHA-256."""
    # Cloned, because safetensors rejects tensors that share memory.
    save_file({name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_labels(path: Path, labels: Sequence[str]) -> None:
    """Write the labels in the form of TorchServe's `index_to_name.json`."""
    names = {str(index): name for index, name in enumerate(labels)}
    path.write_text(json.dumps(names, ensure_ascii=False, indent=1), encoding="utf-8")


def write_config(path: Path, config: Mapping[str, Any]) -> None:
    """Write `model-config.yaml`: TorchServe's keys, and the handler's settings under `gradcam`."""
    path.write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")


def run_archiver(folder: Path, name: str, parts: Parts, version: str = "1.0") -> Path:
    """Run torch-model-archiver and return the archive it writes.

    Args:
        folder: for the archive and temporary files.
        name: of the model.
        parts: the files to pack.
        version: of the model.

    Raises:
        ArchiverError: torch-model-archiver failed; the message has its output.
    """
    # The archiver deletes TMPDIR/<name> if it exists.
    staging = folder / "staging"
    staging.mkdir()
    options: dict[str, object] = {
        "--model-name": name,
        "--version": version,
        "--serialized-file": parts.weights,
        "--handler": parts.handler,
        "--config-file": parts.config,
        "--extra-files": parts.extra_files,
        "--export-path": folder,
    }
    if parts.model_file is not None:
        options["--model-file"] = parts.model_file
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "model_archiver.model_packaging",
            *(str(part) for option in options.items() for part in option),
        ],
        env={**os.environ, "TMPDIR": str(staging)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ArchiverError(f"torch-model-archiver failed: {done.stderr.strip()}")
    return folder / f"{name}.mar"


def deliver(packed: Path, archive: Path) -> Path:
    """Move the archive to its place atomically, so that a server never sees half of it."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    partial = archive.with_name(f".{archive.name}.{os.getpid()}")
    try:
        shutil.copyfile(packed, partial)
        partial.replace(archive)
    finally:
        partial.unlink(missing_ok=True)
    return archive
