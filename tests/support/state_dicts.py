"""State dicts as files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

STATE = {"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.tensor([0.5, -1.0])}


def saved(content: Any, **options: Any) -> bytes:
    """Return what `torch.save` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def written(path: Path, data: bytes) -> Path:
    """Write a file and return its path."""
    path.write_bytes(data)
    return path


def assert_state(loaded: dict[str, Tensor]) -> None:
    """Check that the tensors are those of `STATE`, in order."""
    assert list(loaded) == list(STATE)
    assert all(torch.equal(loaded[name], STATE[name]) for name in STATE)
