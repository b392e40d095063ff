"""A model's settings for tests that do not read them from an archive."""

from __future__ import annotations

from typing import Any

from gradcam.settings import Settings
from tests.support import oracles


def settings(**changes: Any) -> Settings:
    """Return the settings of a ResNet-18 with 1,000 classes, with some of them changed."""
    values: dict[str, Any] = {
        "architecture": "resnet18",
        "num_classes": 1000,
        "weights": "seeded",
        "weights_sha256": "0" * 64,
        "input_size": (224, 224),
        "mean": oracles.ARCHITECTURE_MEAN,
        "std": oracles.ARCHITECTURE_STD,
        "layer": "layer4.1.conv2",
    }
    return Settings(**values | changes)
