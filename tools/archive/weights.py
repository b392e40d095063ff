"""Weights of a network: published by its authors, from the user's file, or random with a fixed seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gradcam.network import architecture as network
from gradcam.network.architecture import NetworkError
from tools.archive.download import has_hash, hash_prefix_of
from tools.archive.published import IMAGENET_CLASSES, published
from tools.archive.state_dict import read_state_dict, strip_prefixes

SEED = 0


@dataclass(frozen=True)
class Weights:
    """A state dict, and where it comes from."""

    state_dict: dict[str, Tensor]
    source: str
    """For people; stored in the archive's settings."""
    labels: tuple[str, ...] | None
    """The classes' names, if they are known without a labels file."""
    removed_prefix: str = ""
    """What was removed from every name to make the weights fit."""


def load(architecture: str, weights: str, num_classes: int | None, model_file: Path | None) -> Weights:
    """Load weights: `default`, `random`, or a file.

    Args:
        architecture: a name that `gradcam.network.architecture.build` accepts; any name with a `model_file`.
        weights: `default`, `random` or a path.
        num_classes: for `random` only; None: the number of the published weights.
        model_file: of the user's own network, which has no published weights.

    Raises:
        WeightsUnavailable: the published weights cannot be downloaded.
        NetworkError: a file cannot be read, or does not match its hash.
    """
    official = None if model_file else published(architecture)
    if weights == "random":
        torch.manual_seed(SEED)
        count = num_classes or (len(official.labels) if official else 0) or IMAGENET_CLASSES
        state_dict = network.build(architecture, count, model_file).state_dict()
        return _random(state_dict, official.labels if official and len(official.labels) == count else None)
    if weights != "default":
        path = Path(weights)
        names = network.build(architecture, IMAGENET_CLASSES, model_file).state_dict()
        state_dict, removed = strip_prefixes(read_state_dict(path), names)
        if official is None or not has_hash(path, hash_prefix_of(official.file_name)):
            return Weights(state_dict, path.name, None, removed)
        return Weights(state_dict, official.name, official.labels)
    if official is None:
        raise NetworkError("your own network has no published weights: pass --weights FILE or --weights random")
    return Weights(official.load(), official.name, official.labels)


def _random(state_dict: dict[str, Tensor], labels: tuple[str, ...] | None) -> Weights:
    for tensor in state_dict.values():
        if tensor.dim() == 2 and not tensor.any():
            # The classifier of torchvision's vision transformers: all zeros would leave nothing to explain.
            tensor.normal_(std=0.02)
    return Weights(state_dict, f"random (seed {SEED})", labels)


def num_classes_of(architecture: str, state_dict: dict[str, Tensor], model_file: Path | None) -> int:
    """Return the number of classes with which a network fits the state dict.

    The first tensor whose shape differs in one size from that of a network with 1,000 classes tells it.
    """
    for name, tensor in network.build(architecture, IMAGENET_CLASSES, model_file).state_dict().items():
        if name in state_dict and state_dict[name].dim() == tensor.dim():
            sizes = [pair for pair in zip(tensor.shape, state_dict[name].shape, strict=True) if pair[0] != pair[1]]
            if len(sizes) == 1 and sizes[0][0] == IMAGENET_CLASSES:
                return sizes[0][1]
    return IMAGENET_CLASSES
