"""A network of the user's, as the tests of the archive and those of the server pack it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn


@dataclass(frozen=True)
class OwnNetwork:
    """Seven classes, with names that need care."""

    architecture: str
    network: nn.Module
    weights: Path
    labels: tuple[str, ...]
