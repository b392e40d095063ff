"""Table and record of the benchmark of methods."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from tools.benchmarks.contest import Comparison

PACKAGES = ("torch", "torchvision", "grad-cam", "torchcam", "captum")


def machine(device: str) -> dict[str, Any]:
    """Describe the machine and the packages with which the figures were measured."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "cuda": "measured" if device == "cuda" else "not measured",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def table(comparisons: Sequence[Comparison], title: str) -> Table:
    """Return the comparisons as a table."""
    columns = ("method", "batch", "measured ÷ reference", "median", "quartiles", "fastest")
    drawn = Table(*columns, title=title)
    for entry in comparisons:
        ratio = entry.ratio
        drawn.add_row(
            entry.method,
            str(entry.batch),
            f"{entry.measured} ÷ {entry.reference}",
            f"{ratio.median:.3f}",
            f"{ratio.lower:.3f} … {ratio.upper:.3f}",
            f"{ratio.fastest:.3f}",
        )
    return drawn


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write the record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
