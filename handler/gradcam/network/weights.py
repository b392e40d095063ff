"""Weights of a network: loading and checking them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from gradcam.network.architecture import NetworkError

# Prefixes of auxiliary classifiers, which are for training only.
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


def load_weights(network: nn.Module, path: Path, sha256: str) -> None:
    """Load an archive's weights file: exactly the network's tensors, which stay mapped to the file.

    Workers then share the memory, and weights that nobody reads take none.

    Raises:
        NetworkError: the file is damaged, or its names or shapes differ from the network's.
    """
    if _sha256(path) != sha256:
        raise NetworkError(f"{path.name} is damaged: its SHA-256 differs from the one in model-config.yaml")
    load_state_dict(network, load_file(path), source=path.name, assign=True)


def load_state_dict(network: nn.Module, state_dict: Mapping[str, Tensor], source: str, *, assign: bool = False) -> None:
    """Load a state dict strictly, except that auxiliary classifiers are ignored.

    Args:
        network: receives the weights.
        state_dict: the weights, in any floating-point precision.
        source: where they come from, for error messages.
        assign: whether the network takes over these tensors, in their precision, instead of copying them.

    Raises:
        NetworkError: names or shapes differ from the network's, or a value is NaN or infinite.
    """
    expected = network.state_dict()
    missing, unexpected = differing_names(expected, state_dict)
    state_dict = {name: tensor for name, tensor in state_dict.items() if name in expected or name in unexpected}
    differences = {
        "missing": missing,
        "unexpected": unexpected,
        "wrong shape": [
            f"{name} {tuple(state_dict[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in expected
            if name in state_dict and state_dict[name].shape != expected[name].shape
        ],
        "NaN or infinite": [name for name, tensor in state_dict.items() if not torch.isfinite(tensor).all()],
    }
    problems = [f"{kind}: {_shortened(names)}" for kind, names in differences.items() if names]
    if problems:
        raise NetworkError(f"{source} does not fit the network ({'; '.join(problems)})")
    network.load_state_dict(state_dict, strict=False, assign=assign)


def differing_names(expected: Collection[str], names: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the missing and the unexpected names of a state dict; auxiliary classifiers are ignored.

    Args:
        expected: the names of the network's tensors.
        names: the names in the state dict.
    """
    # Checkpoints from before PyTorch 0.4.1 lack `num_batches_tracked`, which inference does not use.
    missing = [name for name in expected if name not in names and not name.endswith("num_batches_tracked")]
    return missing, [name for name in names if name not in expected and not name.startswith(AUXILIARY)]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
