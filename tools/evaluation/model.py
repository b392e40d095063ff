"""Load an archive's network for evaluation."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from torch import Tensor

from gradcam.engines.engine import EngineError
from gradcam.errors import UnknownName
from gradcam.network.architecture import NetworkError
from gradcam.network.logits import probabilities
from gradcam.pipeline import Pipeline
from gradcam.settings import Settings, SettingsError
from gradcam.split.parts import SplitError
from gradcam.split.splitter import split
from tools.evaluation.measures import Probability

BATCH = 32


class EvaluationError(Exception):
    """Nothing can be measured, for the reason in the message."""


def load(archive: Path) -> Pipeline:
    """Load the network of an archive as its handler does.

    Raises:
        EvaluationError: the file is not an archive of this project.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="gradcam-evaluate-") as folder, zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
            return _load_unpacked(Path(folder))
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
        raise EvaluationError(f"Cannot load {archive}: {error}") from error


def _load_unpacked(folder: Path) -> Pipeline:
    model = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_text(encoding="utf-8"))["model"]
    config = yaml.safe_load((folder / model["configFile"]).read_text(encoding="utf-8"))
    settings = Settings.from_mapping(config.get("gradcam")).without_client_limits()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Pipeline.load(folder, model["serializedFile"], settings, device)


def split_at(pipeline: Pipeline, layers: Sequence[str]) -> None:
    """Split the network at the layers.

    Raises:
        EvaluationError: it cannot be split there.
    """
    for layer in layers:
        try:
            pipeline.splits.by_layer[layer] = split(pipeline.network, layer, pipeline.settings.input_size)
        except (UnknownName, SplitError) as error:
            raise EvaluationError(str(error)) from error


def probability_of(pipeline: Pipeline, target: int) -> Probability:
    """Return the function from images to the probability of a class, in float32 whatever precision is served."""

    def probability(normalized: Tensor) -> Tensor:
        with torch.inference_mode():
            chunks = torch.split(normalized, BATCH)  # (n, 3, H, W) each
            logits = torch.cat([pipeline.network(chunk.to(pipeline.device)) for chunk in chunks])  # (N, K)
            return probabilities(logits, pipeline.settings.activation)[:, target].cpu()

    return probability
