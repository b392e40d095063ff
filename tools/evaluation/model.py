"""An archive's network as evaluation needs it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradcam.errors import UnknownName
from gradcam.network.logits import probabilities
from gradcam.pipeline import Pipeline
from gradcam.split.parts import SplitError
from gradcam.split.splitter import split
from tools.evaluation.measures import Probability

BATCH = 32


class EvaluationError(Exception):
    """Nothing can be measured, for the reason in the message."""


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
