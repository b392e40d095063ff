"""Logits, gradients, and rows of a split."""

from __future__ import annotations

from gradcam.split.splitter import split
from tests.support import oracles
from tests.support.split_networks import (
    SIZE,
    assert_same,
    explain,
    real,
    some_images,
)


def test_head_accepts_more_rows_than_the_trunk_processed() -> None:
    for architecture, layer in (("resnet18", "layer4.1.conv2"), ("efficientnet_lite0", "_conv_head")):
        model, images = real(architecture), some_images(3)
        rows, classes = [2, 0, 1, 2, 2, 0, 1], [0, 1, 2, 3, 4, 5, 6]
        expected = oracles.autograd_at(model, layer, images[rows], classes)
        observed = explain(split(model, layer, SIZE), images, rows, classes)
        assert_same(observed.gradients, expected.gradients, "gradients")
        assert_same(observed.logits, expected.logits, "logits")
