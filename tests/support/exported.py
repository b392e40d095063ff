"""A small network for tests of exported graphs, and archives of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tools.archive.build import Build, build

# A residual branch past the layer, a batch norm, and pooling: what backward passes of real networks contain.
TINY = """
import torch
from torch import nn

class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.Hardswish())
        self.last = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return torch.relu(x + self.last(self.body(x)))

def create_model(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=3, padding=1), nn.ReLU(), nn.MaxPool2d(2), Residual(8),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8 * 2 * 3, num_classes),
    )
"""
LABELS = ("cat", "dog", "Straße", "dog 🐕", "crow")
MakeArchive = Callable[..., Path]


def tiny_archive(
    folder: Path, labels: tuple[str, ...] = LABELS, logits: str = "num_classes", **options: object
) -> Path:
    """Build an archive of the tiny network with so many logits in a folder, with options of `Build`."""
    (folder / "tiny.py").write_text(TINY.replace("num_classes),", f"{logits}),"))
    (folder / "labels.txt").write_text("\n".join(labels), encoding="utf-8")
    settings = {"input_size": (32, 44), "layer": "3.last", "name": "tiny", **options}
    return build(
        Build(
            "tiny",
            weights="random",
            model_file=folder / "tiny.py",
            labels=folder / "labels.txt",
            output=folder,
            **settings,  # type: ignore[arg-type]
        )
    )
