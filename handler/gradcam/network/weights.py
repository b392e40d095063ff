"""Weights into a network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gradcam.network.architecture import NetworkError

# Auxiliary classifiers serve training only.
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


def load_weights(network: nn.Module, path: Path, sha256: str) -> None:
    """Loads an archive's weights file, every tensor of it and no other.

    Raises:
        NetworkError: the file is damaged, or names or shapes differ from the network's.
    """
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise NetworkError(f"{path.name} is damaged: its SHA-256 is not the one in model-config.yaml")
    load_state_dict(network, load_file(path), source=path.name)


def load_state_dict(network: nn.Module, state_dict: Mapping[str, Tensor], source: str) -> None:
    """Loads a state dict, strictly but for auxiliary classifiers; `source` names it in the error.

    Raises:
        NetworkError: names or shapes differ from the network's, or a number is NaN or infinite.
    """
    wanted = network.state_dict()
    state_dict = {
        name: tensor for name, tensor in state_dict.items() if name in wanted or not name.startswith(AUXILIARY)
    }
    differences = {
        # Checkpoints from before PyTorch 0.4.1 do not have the count, which inference does not use.
        "lacks": [name for name in wanted if name not in state_dict and not name.endswith("num_batches_tracked")],
        "has, but the network does not:": [name for name in state_dict if name not in wanted],
        "has in another shape:": [
            f"{name} {tuple(state_dict[name].shape)} instead of {tuple(wanted[name].shape)}"
            for name in wanted
            if name in state_dict and state_dict[name].shape != wanted[name].shape
        ],
        "has with numbers that are NaN or infinite:": [
            name for name, tensor in state_dict.items() if not torch.isfinite(tensor).all()
        ],
    }
    found = [f"it {verb} {_shortened(names)}" for verb, names in differences.items() if names]
    if found:
        raise NetworkError(f"{source} does not fit the network: {'; '.join(found)}")
    network.load_state_dict(state_dict, strict=False)


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
