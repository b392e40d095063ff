"""The network's splits: at the model's layer, and at every layer that requests have named."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from gradcam.engines import engine as engines
from gradcam.engines.engine import Examples
from gradcam.errors import TooExpensive, UnknownName
from gradcam.images.model_input import Normalization
from gradcam.settings import Settings
from gradcam.split.parts import Split, SplitError
from gradcam.split.splitter import split
from gradcam.split.verification import random_pixels

# Number of images that an engine is verified on.
VERIFICATION_BATCH = 2


def examples_of(settings: Settings, device: torch.device) -> Examples:
    """Return the images that engines are verified on when a model is loaded."""
    return Examples(random_pixels(settings.input_size, VERIFICATION_BATCH, device), Normalization.of(settings))


class LayerSplits:
    """Splits of one network by layer; a layer that requests name is split once."""

    def __init__(self, network: nn.Module, settings: Settings, graph: Path | None = None) -> None:
        """Split the network at the model's layer, and run that trunk on the model's engine.

        Args:
            network: in eval mode.
            settings: of the model.
            graph: the quantized graph of the trunk, if the precision is int8.

        Raises:
            UnknownName: the network has no such layer.
            SplitError: the network cannot be split there.
            EngineError: the engine cannot run it, or the graph is damaged.
        """
        self.network = network
        self.settings = settings
        device = next(network.parameters()).device
        if settings.engine not in ("auto", "openvino") or device.type != "cpu":
            self._prepare_for_torch()
        parts = split(network, settings.layer, settings.input_size)
        examples = examples_of(settings, device)
        if graph is None:
            default = engines.accelerate(
                parts, settings.engine, settings.precision, examples.images, examples.normalization
            )
        else:
            default = engines.load_quantized(parts, graph, settings.graph_sha256, examples)
        if default.engine != "openvino":
            self._prepare_for_torch()
        self.by_layer = {settings.layer: default}
        self.unsplittable_layers: dict[str, str] = {}

    def __getitem__(self, layer: str) -> Split:
        return self.by_layer[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_layer)

    @property
    def default(self) -> Split:
        """The split at the model's layer."""
        return self.by_layer[self.settings.layer]

    def prepare(self, layer: str, deadline: float) -> None:
        """Split the network at a layer, if it is the first request for the layer.

        Raises:
            UnknownName: the network has no such layer, or cannot be explained there.
            TooExpensive: the deadline, on the clock `time.monotonic`, is exceeded before the split.
        """
        if layer in self.unsplittable_layers:
            raise UnknownName(self.unsplittable_layers[layer], code="unknown_layer")
        if layer in self.by_layer:
            return
        if time.monotonic() > deadline:
            raise TooExpensive("Time limit exceeded before the network was split at a new layer; retry the request")
        self._prepare_for_torch()
        try:
            parts = split(self.network, layer, self.settings.input_size)
        except SplitError as error:
            self.unsplittable_layers[layer] = str(error)
            raise UnknownName(str(error), code="unknown_layer") from error
        self.by_layer[layer] = engines.in_torch(parts, self.settings.precision)

    def _prepare_for_torch(self) -> None:
        """Give the weights the layout with the fastest convolutions in torch, on CPUs and GPUs.

        This copies them. Beside a trunk in OpenVINO, which has its own copy, that waits for a request that needs it.
        """
        self.network.to(memory_format=torch.channels_last)
