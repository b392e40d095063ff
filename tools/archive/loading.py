"""Load an archive's network as its handler does, for commands of the model's owner."""

from __future__ import annotations

import json
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from gradcam.engines.engine import EngineError
from gradcam.errors import UnknownName
from gradcam.network.architecture import NetworkError
from gradcam.pipeline import Pipeline
from gradcam.settings import Settings, SettingsError
from gradcam.split.parts import SplitError


class ArchiveError(Exception):
    """An archive that cannot be loaded, for the reason in the message."""


def load(archive: Path, device: torch.device, **changes: Any) -> Pipeline:
    """Load the network of an archive as its handler does, without the limits for clients.

    Args:
        archive: the `.mar` file.
        device: of the network.
        changes: settings that replace the archive's.

    Raises:
        ArchiveError: the file is not an archive of this project.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="gradcam-archive-") as folder, zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
            return _load_unpacked(Path(folder), device, changes)
    except (
        OSError,
        KeyError,
        zipfile.BadZipFile,
        SettingsError,
        NetworkError,
        SplitError,
        EngineError,
        UnknownName,
    ) as error:
        raise ArchiveError(f"Cannot load {archive}: {error}") from error


def _load_unpacked(folder: Path, device: torch.device, changes: dict[str, Any]) -> Pipeline:
    model = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_text(encoding="utf-8"))["model"]
    config = yaml.safe_load((folder / model["configFile"]).read_text(encoding="utf-8"))
    settings = replace(Settings.from_mapping(config.get("gradcam")).without_client_limits(), **changes)
    return Pipeline.load(folder, model["serializedFile"], settings, device)
