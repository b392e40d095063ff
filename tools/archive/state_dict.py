"""State dicts from files that may come from anybody."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from gradcam.network.architecture import NetworkError


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a safetensors or PyTorch file without running code in it.

    Checkpoints with the state dict under `state_dict` or `model` are accepted, and so are names with the prefix
    `module.` of `DataParallel`.

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
        raise NetworkError(
            f"{path.name} is not a state dict that can be read without running code ({type(error).__name__}); "
            "write it with torch.save(model.state_dict(), …) or safetensors.torch.save_file(model.state_dict(), …)"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not _is_state_dict(loaded):
        raise NetworkError(f"{path.name} contains no state dict, which maps names to tensors")
    if all(name.startswith("module.") for name in loaded):
        return {name.removeprefix("module."): tensor for name, tensor in loaded.items()}
    return dict(loaded)


def _is_state_dict(loaded: object) -> bool:
    return (
        isinstance(loaded, dict)
        and len(loaded) > 0
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items())
    )
