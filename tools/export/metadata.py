"""What an exported file says about itself: how to prepare its input, names of its classes, and its origin."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import gradcam
from tools.export.graph import Explained, Precision

# A file's license is its owner's to state.
NO_LICENSE = "not stated"
PACKAGES = ("torch", "onnx", "onnxscript", "openvino")
# Settings that say how an image becomes the graph's input, which contains the normalization with mean and std.
PREPROCESSING = ("input_size", "transform", "resize_size", "interpolation", "mean", "std")
# Keys of the metadata have this prefix, because runtimes add some of their own.
PREFIX = "gradcam_"


def metadata(explained: Explained, archive: Path, precision: Precision, license_text: str) -> dict[str, str]:
    """Return the metadata of a file: texts by key; those of `labels`, `preprocessing` and `versions` are JSON."""
    pipeline = explained.pipeline
    settings = pipeline.settings.to_mapping()
    entries: dict[str, Any] = {
        "model": pipeline.served.name,
        "model_version": pipeline.served.version,
        "architecture": settings["architecture"],
        "labels": list(pipeline.labels.names),
        "layer": explained.parts.layer,
        "method": explained.method,
        "activation": settings["activation"],
        "precision": precision,
        "preprocessing": {name: settings[name] for name in PREPROCESSING},
        "weights": settings["weights"],
        "weights_sha256": settings["weights_sha256"],
        "archive_sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "versions": {"gradcam-serving": gradcam.__version__, **_installed_versions()},
        "license": license_text,
    }
    return {
        f"{PREFIX}{key}": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in entries.items()
    }


def _installed_versions() -> dict[str, str]:
    installed = {entry.name.lower() for entry in importlib.metadata.distributions()}
    return {name: importlib.metadata.version(name) for name in PACKAGES if name in installed}
