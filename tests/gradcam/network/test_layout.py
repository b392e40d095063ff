"""Layouts of outputs: which dimension is what, and the same values as a grid."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gradcam.network.layout import Layout

SQUARE, WIDE = (224, 224), (64, 96)


@pytest.mark.parametrize(
    ("shape", "input_size", "expected"),
    [
        ((2, 512, 7, 7), SQUARE, Layout("channels first", 7, 7)),
        ((2, 7, 7, 768), SQUARE, Layout("channels last", 7, 7)),
        ((2, 512, 2, 3), WIDE, Layout("channels first", 2, 3)),
        ((2, 2, 3, 512), WIDE, Layout("channels last", 2, 3)),
        ((2, 49, 768), SQUARE, Layout("tokens", 7, 7)),
        ((2, 197, 768), SQUARE, Layout("tokens", 14, 14, prefix=1)),
        ((2, 198, 768), SQUARE, Layout("tokens", 14, 14, prefix=2)),
        ((2, 201, 768), SQUARE, Layout("tokens", 14, 14, prefix=5)),
        ((2, 25, 768), WIDE, Layout("tokens", 4, 6, prefix=1)),
    ],
    ids=str,
)
def test_layout_is_recognized(shape: tuple[int, ...], input_size: tuple[int, int], expected: Layout) -> None:
    assert Layout.of(nn.Identity(), shape, input_size) == expected


@pytest.mark.parametrize(
    "shape",
    [(2, 512), (2, 512, 1, 1), (2, 1, 1, 512), (2, 7, 7, 7), (2, 3, 50, 100), (2, 1, 768), (2, 8, 3, 7, 7)],
    ids=str,
)
def test_shape_without_an_unambiguous_grid_has_no_layout(shape: tuple[int, ...]) -> None:
    assert Layout.of(nn.Identity(), shape, SQUARE) is None


def test_convolution_always_has_its_channels_first() -> None:
    convolution = nn.Conv2d(3, 7, 3)
    assert Layout.of(convolution, (2, 7, 7, 7), SQUARE) == Layout("channels first", 7, 7)
    assert Layout.of(convolution, (2, 7, 1, 1), SQUARE) is None


@pytest.mark.parametrize(
    ("layout", "shape", "channel_dim"),
    [
        (Layout("channels first", 2, 3), (5, 4, 2, 3), 1),
        (Layout("channels last", 2, 3), (5, 2, 3, 4), 3),
        (Layout("tokens", 2, 3), (5, 6, 4), 2),
        (Layout("tokens", 2, 3, prefix=1), (5, 7, 4), 2),
    ],
    ids=str,
)
def test_values_as_a_grid(layout: Layout, shape: tuple[int, ...], channel_dim: int) -> None:
    values = torch.arange(float(torch.tensor(shape).prod())).reshape(shape)
    grid = layout.to_grid(values)  # (N, C, h, w)
    assert layout.channel_dim == channel_dim
    assert grid.shape == (5, 4, 2, 3)
    for row, channel, y, x in [(0, 0, 0, 0), (4, 3, 1, 2), (2, 1, 1, 0)]:
        position = {
            "channels first": (row, channel, y, x),
            "channels last": (row, y, x, channel),
            "tokens": (row, layout.prefix + 3 * y + x, channel),
        }[layout.kind]
        assert grid[row, channel, y, x] == values[position]
