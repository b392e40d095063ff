"""State dicts from files that may come from anybody."""

from __future__ import annotations

import re
import struct
import warnings
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from gradcam.network.architecture import NetworkError
from gradcam.network.weights import differing_names

# What wraps a network while it is trained, by the prefix that this adds to every name.
PREFIXES = {"model.": "Lightning", "module.": "DataParallel", "_orig_mod.": "torch.compile"}

SAVE = "torch.save(model.state_dict(), …) or safetensors.torch.save_file(model.state_dict(), …)"


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a safetensors or PyTorch file without running code in it.

    Checkpoints with the state dict under `state_dict`, `model_state_dict` or `model` are accepted.

    Raises:
        NetworkError: there is no such file, or it is not a state dict, or a pickle that would run code.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that are rejected in any case
            loaded: Any = (
                load_file(path)
                if path.suffix == ".safetensors"
                else torch.load(path, map_location="cpu", weights_only=True)
            )
    except FileNotFoundError as error:
        raise NetworkError(f"no such weights file: {path}") from error
    except Exception as error:
        # Damaged or malicious files make the readers raise anything (IndexError, struct.error, …).
        kind, advice = _kind(path, error)
        raise NetworkError(
            f"{path.name} is not a state dict that can be read without running code ({kind}); {advice} {SAVE}"
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not _is_state_dict(loaded):
        raise NetworkError(f"{path.name} contains no state dict, which maps names to tensors")
    return dict(loaded)


def strip_prefixes(state_dict: dict[str, Tensor], expected: Collection[str]) -> tuple[dict[str, Tensor], str]:
    """Remove what training tools put in front of every name, if exactly that makes the names fit.

    Args:
        state_dict: as read from a file.
        expected: the names of the network's own tensors.

    Returns:
        The state dict with the network's names and what was removed, such as `model.module.`; or the state dict as it
        is and an empty string.
    """
    stripped, removed = state_dict, ""
    while any(differing_names(expected, stripped)):
        prefix = next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in stripped)), None)
        if prefix is None:
            return state_dict, ""
        stripped = {name.removeprefix(prefix): tensor for name, tensor in stripped.items()}
        removed += prefix
    return stripped, removed


def _is_state_dict(loaded: object) -> bool:
    return (
        isinstance(loaded, dict)
        and len(loaded) > 0
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items())
    )


def _kind(path: Path, error: Exception) -> tuple[str, str]:
    """Return what an unreadable file is, and what to do instead, to be followed by `SAVE`."""
    if _is_onnx(path):
        return "an ONNX model", (
            "ONNX is not supported, because a map needs gradients of the PyTorch network: save the weights of that "
            "network with"
        )
    if _is_torchscript(path):
        return "a TorchScript archive", (
            "TorchScript is not supported, because a map needs the modules of the PyTorch network: save the weights "
            "of that network, or what torch.jit.load returns for the file, with"
        )
    if found := re.search(r"GLOBAL (\S+) was not", str(error)):
        return f"a pickle with the Python object {found[1]}", (
            "if it is a whole network written by torch.save(model, …), load it where its code is installed and save "
            "its weights with"
        )
    return type(error).__name__, "write it with"


def _is_onnx(path: Path) -> bool:
    """Return whether the file begins as an ONNX model: its format's version, then its producer."""
    if path.suffix == ".onnx":
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(3)
    return head[:1] == b"\x08" and head[2:] == b"\x12"


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, struct.error):  # a damaged or other file
        return False
