"""The search for the logits in a network's output, and what is rejected."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradcam.network.architecture import NetworkError
from gradcam.settings import Activation
from tools.archive.logits import Logits, find, run


def zeros(*shape: int) -> Tensor:
    return torch.zeros(*shape)


@pytest.mark.parametrize(
    ("output", "requested", "labels", "expected"),
    [
        (zeros(1, 7), None, None, Logits("", "logits", 7)),
        ({"logits": zeros(1, 7), "map": zeros(1, 7, 4, 4)}, None, None, Logits("logits", "logits", 7)),
        (OrderedDict(loss=None, logits=zeros(1, 7)), None, None, Logits("logits", "logits", 7)),
        ((zeros(1, 16, 4, 4), zeros(1, 7)), None, None, Logits("1", "logits", 7)),
        ({"features": zeros(1, 16), "logits": zeros(1, 7)}, None, 7, Logits("logits", "logits", 7)),
        ({"features": zeros(1, 16), "logits": zeros(1, 7)}, "features", 7, Logits("features", "logits", 16)),
        ((zeros(1, 7), zeros(1, 7)), "1", None, Logits("1", "logits", 7)),
        ({"features": zeros(1, 16), "logit": zeros(1, 1)}, None, 2, Logits("logit", "single_logit", 2)),
        (zeros(1, 1), None, 2, Logits("", "single_logit", 2)),
        (zeros(1), None, 2, Logits("", "single_logit", 2)),
        (torch.tensor(0.0), None, 2, Logits("", "single_logit", 2)),
    ],
)
def test_logits_are_found(output: Any, requested: str | None, labels: int | None, expected: Logits) -> None:
    assert find(output, requested, "softmax", labels) == expected


def test_one_independent_label_stays_one_class() -> None:
    assert find(zeros(1, 1), None, "sigmoid", 1) == Logits("", "logits", 1)


@pytest.mark.parametrize(
    ("output", "requested", "activation", "labels", "reason"),
    [
        ({"a": zeros(1, 7), "b": zeros(1, 7)}, None, "softmax", 7, r"a \(1, 7\), b \(1, 7\); name it with --logits"),
        ({"a": zeros(1, 7), "b": zeros(1, 5)}, None, "softmax", None, r"a \(1, 7\), b \(1, 5\); name it with --logits"),
        ({"out": zeros(1, 21, 64, 64)}, None, "softmax", None, r"out \(1, 21, 64, 64\).*segmentation"),
        ([{"boxes": zeros(4, 4)}], None, "softmax", None, r"0 a dict.*detection"),
        (zeros(1, 21, 64, 64), None, "softmax", None, r"got \(1, 21, 64, 64\) for one image: only image classific"),
        (zeros(7), None, "softmax", None, r"got \(7,\)"),
        (None, None, "softmax", None, r"got a NoneType"),
        ({"a": zeros(1, 7)}, "b", "softmax", None, r"no output 'b'; its outputs are a \(1, 7\)"),
        (zeros(1, 7), "b", "softmax", None, r"no output 'b'; it returns one: omit --logits"),
        (zeros(1, 7), "", "softmax", None, r"omit --logits"),
        (zeros(1, 1), None, "softmax", None, r"single number.*--labels with two names.*Got no labels\. Regression"),
        (zeros(1, 1), None, "softmax", 1, r"Got 1 labels"),
        (zeros(1), None, "sigmoid", 1, r"return \(batch, 1\)"),
    ],
)
def test_what_is_rejected(
    output: Any, requested: str | None, activation: Activation, labels: int | None, reason: str
) -> None:
    with pytest.raises(NetworkError, match=reason):
        find(output, requested, activation, labels)


def test_a_network_that_fails(tmp_path: Path) -> None:
    with pytest.raises(
        NetworkError, match=r"cannot process images of 8 × 12 pixels \(--input-size\): mine.py: RuntimeError: "
    ):
        run(nn.Linear(5, 2), (8, 12), tmp_path / "mine.py")
