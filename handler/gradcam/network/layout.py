"""How a layer's output lies on the image: channels × grid, grid × channels, or a sequence of tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

# Maximum number of tokens that transformers put before the patches' tokens: class token, distillation token, registers.
MAX_PREFIX_TOKENS = 16

# Modules whose output always has its channels first, whatever its sizes.
CHANNELS_FIRST = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d)


@dataclass(frozen=True)
class Layout:
    """The meaning of an output's dimensions after the batch dimension."""

    kind: Literal["channels first", "channels last", "tokens"]
    height: int
    width: int
    prefix: int = 0
    """Number of leading tokens that have no position on the image."""

    @property
    def channel_dim(self) -> int:
        """Index of the channel dimension in the layer's output."""
        return {"channels first": 1, "channels last": 3, "tokens": 2}[self.kind]

    @classmethod
    def of(cls, module: nn.Module, shape: tuple[int, ...], input_size: tuple[int, int]) -> Layout | None:
        """Recognize the layout of a module's output.

        Args:
            module: whose output it is; some modules have one layout only.
            shape: of the output, (B, …).
            input_size: height and width of the network's input.

        Returns:
            None if the shape has no grid, a grid of one position, or several possible layouts.
        """
        if len(shape) == 4 and isinstance(module, CHANNELS_FIRST):
            return cls("channels first", shape[2], shape[3]) if shape[2] * shape[3] > 1 else None
        if len(shape) == 4:
            return _of_grid(shape, input_size)
        if len(shape) == 3:
            return _of_tokens(shape[1], input_size)
        return None

    def to_grid(self, values: Tensor) -> Tensor:
        """Return the layer's values, or their gradients, as (N, C, h, w)."""
        if self.kind == "channels first":
            return values
        if self.kind == "channels last":
            return values.permute(0, 3, 1, 2)  # (N, h, w, C) → (N, C, h, w)
        count, _, channels = values.shape
        patches = values[:, self.prefix :].reshape(count, self.height, self.width, channels)  # (N, h, w, C)
        return patches.permute(0, 3, 1, 2)  # → (N, C, h, w)


def _of_grid(shape: tuple[int, ...], input_size: tuple[int, int]) -> Layout | None:
    first = _distortion(shape[2], shape[3], input_size)
    last = _distortion(shape[1], shape[2], input_size)
    if first < last and first <= 1:
        return Layout("channels first", shape[2], shape[3])
    if last < first and last <= 1:
        return Layout("channels last", shape[1], shape[2])
    return None


def _distortion(height: int, width: int, input_size: tuple[int, int]) -> float:
    """Return by how many rows or columns a grid deviates from the input's proportions; padding causes up to 1."""
    if height * width <= 1:
        return math.inf
    step = max(input_size[0] / height, input_size[1] / width)
    return max(abs(height - input_size[0] / step), abs(width - input_size[1] / step))


def _of_tokens(count: int, input_size: tuple[int, int]) -> Layout | None:
    """Return the finest grid of the input's proportions, with the fewest tokens left over as a prefix."""
    proportion = input_size[0] / input_size[1]
    for prefix in range(MAX_PREFIX_TOKENS + 1):
        patches = count - prefix
        height = round((max(patches, 0) * proportion) ** 0.5)
        if height and patches > 1 and patches % height == 0 and _distortion(height, patches // height, input_size) <= 1:
            return Layout("tokens", height, patches // height, prefix)
    return None
