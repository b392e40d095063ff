"""Split method `hook`, compared with `fx` on an equivalent network."""

from __future__ import annotations

import torch
from torch import Tensor

from gradcam.split.splitter import split
from tests.support.split_networks import (
    TOY_SIZE,
    Toy,
    some_images,
    toy,
)


def test_control_flow_that_depends_on_the_image_is_split_with_hooks() -> None:
    """The results equal those of the same network without control flow, which is split with torch.fx."""

    def straight(m: Toy, x: Tensor) -> Tensor:
        h = m.first(x)
        return m.end(m.act(m.layer(h)) + h)

    def branching(m: Toy, x: Tensor) -> Tensor:
        return straight(m, x) if x.abs().mean() > 0 else m.end(x)

    images, rows, classes = some_images(2, TOY_SIZE), torch.tensor([0, 1, 1]), torch.tensor([2, 0, 1])
    results = []
    for forward, method in ((straight, "fx"), (branching, "hook")):
        model = toy(forward)
        parts = split(model, "layer", TOY_SIZE)
        assert parts.method == method
        with torch.inference_mode():
            features = parts.features(images)
            logits = parts.logits(features)
        gradients = parts.gradients(features.rows(rows), lambda logits: logits.gather(1, classes[:, None])[:, 0])
        results.append((features.activations, logits, gradients))
        assert not any(module._forward_hooks for module in model.modules())
    for hooked, traced in zip(*results, strict=True):
        torch.testing.assert_close(hooked, traced)
