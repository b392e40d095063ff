"""A user's network, as the tests of the archive and of the server pack it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn


@dataclass(frozen=True)
class OwnNetwork:
    """A network with seven classes whose names contain a comma, spaces, and non-ASCII characters."""

    architecture: str
    network: nn.Module
    weights: Path
    labels: tuple[str, ...]
