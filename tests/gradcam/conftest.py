"""What all unit tests share."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small tensors gain nothing from more, and on a busy machine the threads wait for each other."""
    torch.set_num_threads(1)
