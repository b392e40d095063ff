"""How a layer's output lies on the picture: as channels × grid, grid × channels, or a row of tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

# Class token, distillation token, registers: what transformers put in front of the patches' tokens.
MAX_PREFIX_TOKENS = 16


# Modules whose output has one layout only, whatever its sizes.
CHANNELS_FIRST = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d)


@dataclass(frozen=True)
class Layout:
    """The meaning of an output's dimensions behind the batch."""

    kind: Literal["channels first", "channels last", "tokens"]
    height: int
    width: int
    prefix: int = 0
    """How many tokens in front belong to no place in the picture."""

    @property
    def channel_dim(self) -> int:
        """Which dimension of the layer's output is the channels."""
        return {"channels first": 1, "channels last": 3, "tokens": 2}[self.kind]

    @classmethod
    def of(cls, module: nn.Module, shape: tuple[int, ...], input_size: tuple[int, int]) -> Layout | None:
        """Recognises the shape (B, …) of a module's output, for an input of that height and width.

        Returns:
            None where the shape has no grid, or a grid of one position, or could be read in two ways.
        """
        if len(shape) == 4 and isinstance(module, CHANNELS_FIRST):
            return cls("channels first", shape[2], shape[3]) if shape[2] * shape[3] > 1 else None
        if len(shape) == 4:
            return _of_grid(shape, input_size)
        if len(shape) == 3:
            return _of_tokens(shape[1], input_size)
        return None

    def to_grid(self, values: Tensor) -> Tensor:
        """Returns the layer's values, or their gradients, as (N, C, h, w)."""
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
    """Returns by how many rows or columns a grid misses the picture's proportions; padding makes it up to one."""
    if height * width <= 1:
        return math.inf
    step = max(input_size[0] / height, input_size[1] / width)
    return max(abs(height - input_size[0] / step), abs(width - input_size[1] / step))


def _of_tokens(count: int, input_size: tuple[int, int]) -> Layout | None:
    """Takes the finest grid of the picture's proportions that leaves few tokens over."""
    proportion = input_size[0] / input_size[1]
    for prefix in range(MAX_PREFIX_TOKENS + 1):
        patches = count - prefix
        height = round((max(patches, 0) * proportion) ** 0.5)
        if height and patches > 1 and patches % height == 0 and _distortion(height, patches // height, input_size) <= 1:
            return Layout("tokens", height, patches // height, prefix)
    return None
