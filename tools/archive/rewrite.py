"""Copies of an archive with changed files or settings."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tools.archive.packaging import CONFIG_FILE


def rewrite(archive: Path, target: Path, changes: Mapping[str, bytes | None]) -> Path:
    """Copy an archive, with its comment, and with some of its files replaced, and return the copy.

    Args:
        archive: to copy.
        target: the copy; its folder has to exist.
        changes: new content by file name; None leaves the file out. Other names are added.
    """
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as copy:
        copy.comment = source.comment
        names = source.namelist()
        for name in dict.fromkeys([*names, *changes]):
            content = changes[name] if name in changes else source.read(name)
            if content is not None:
                copy.writestr(name, content)
    return target


def reconfigure(archive: Path, target: Path, **settings: Any) -> Path:
    """Copy an archive with other values at the top level of its `model-config.yaml`, and return the copy.

    Args:
        archive: to copy.
        target: the copy; its folder has to exist.
        **settings: such as `batchSize`, which TorchServe reads.
    """
    config = {**read_config(archive), **settings}
    return rewrite(archive, target, {CONFIG_FILE: yaml.safe_dump(config, sort_keys=False).encode()})


def read_config(archive: Path) -> dict[str, Any]:
    """Return an archive's `model-config.yaml`."""
    with zipfile.ZipFile(archive) as opened:
        config: dict[str, Any] = yaml.safe_load(opened.read(CONFIG_FILE))
    return config
