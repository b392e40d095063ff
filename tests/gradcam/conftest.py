"""Fixtures of all unit tests of the handler."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gradcam.network import architecture
from gradcam.pipeline import Pipeline
from tests.support import oracles
from tests.support.pipelines import CPU, IMAGES, LABELS, SETTINGS


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small tensors gain nothing from more threads, and on a busy machine the threads wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model() -> nn.Module:
    """A network with random weights, shifted so that it predicts several classes."""
    network_ = oracles.seeded(architecture.build("resnet18", SETTINGS.num_classes), seed=3)
    inputs = torch.cat([oracles.model_input(image, input_size=(96, 128)) for image in IMAGES])
    network_.get_parameter("fc.bias").sub_(network_(inputs).mean(dim=0))
    return network_


@pytest.fixture(scope="session")
def pipeline(model: nn.Module) -> Pipeline:
    return Pipeline(model, LABELS, SETTINGS, CPU)
