"""Networks with other outputs than logits (B, K), split by both methods, against autograd on the network itself."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from gradcam.network.logits import probabilities, return_logits
from gradcam.settings import ClassScores
from gradcam.split.splitter import split
from tests.support import oracles
from tests.support.split_networks import assert_same, explain, some_images

SIZE = (16, 24)


class Outputs(NamedTuple):
    features: Tensor
    scores: Tensor


class Heads(nn.Module):
    """A small network whose output is put together by `arrange` from features (B, 6) and logits (B, K)."""

    def __init__(self, classes: int, arrange: Callable[[Tensor, Tensor], Any], *, traceable: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2)
        self.last = nn.Conv2d(6, 6, 3, stride=2)
        self.classes = nn.Linear(6, classes)
        self.arrange = arrange
        self.traceable = traceable

    def forward(self, x: Tensor) -> Any:
        x = self.last(self.stem(x).relu()).relu()
        if not self.traceable and bool(x.isnan().any()):  # torch.fx cannot trace a decision on values
            raise ValueError("not a number")
        features = x.mean((2, 3))
        return self.arrange(features, self.classes(features))


FORMS: dict[str, tuple[Callable[[Tensor, Tensor], Any], str]] = {
    "dict": (lambda features, logits: {"features": features, "logits": logits}, "logits"),
    "ordered dict": (lambda features, logits: OrderedDict(out=logits, features=features), "out"),
    "numbered dict": (lambda features, logits: {0: features, 1: logits}, "1"),
    "tuple": (lambda features, logits: (features, logits), "1"),
    "list": (lambda features, logits: [logits, features], "0"),
    "named tuple": (Outputs, "1"),
}


@pytest.mark.parametrize("traceable", [True, False], ids=["fx", "hook"])
@pytest.mark.parametrize(("arrange", "name"), FORMS.values(), ids=FORMS)
def test_the_named_output_is_explained(arrange: Callable[[Tensor, Tensor], Any], name: str, traceable: bool) -> None:
    original = oracles.seeded(Heads(5, arrange, traceable=traceable))
    plain = copy.deepcopy(original)
    vars(plain)["arrange"] = lambda features, logits: logits
    names = [name for name, _ in original.named_modules()]

    parts = split(return_logits(copy.deepcopy(original), name, "logits"), "last", SIZE)

    assert parts.method == ("fx" if traceable else "hook")
    images, rows, classes = some_images(2, SIZE), [1, 0, 1], [0, 4, 2]
    expected = oracles.autograd_at(plain, "last", images[rows], classes)
    observed = explain(parts, images, rows, classes)
    assert_same(observed.logits, expected.logits, "logits")
    assert_same(observed.gradients, expected.gradients, "gradients")
    assert [name for name, _ in return_logits(original, name, "logits").named_modules()] == names


@pytest.mark.parametrize("traceable", [True, False], ids=["fx", "hook"])
@pytest.mark.parametrize(
    ("arrange", "name"),
    [
        (lambda features, logits: logits, ""),
        (lambda features, logits: logits.squeeze(1), ""),
        (lambda features, logits: {"z": logits, "features": features}, "z"),
    ],
    ids=["(B, 1)", "(B,)", "dict"],
)
def test_one_logit_becomes_two_classes(arrange: Callable[[Tensor, Tensor], Any], name: str, traceable: bool) -> None:
    original = oracles.seeded(Heads(1, arrange, traceable=traceable))
    plain = copy.deepcopy(original)
    vars(plain)["arrange"] = lambda features, logits: logits
    images, rows = some_images(2, SIZE), [1, 0, 1, 0]
    expected = oracles.autograd_at(plain, "last", images[rows], [0] * 4)  # gradients of z

    parts = split(return_logits(original, name, "single_logit"), "last", SIZE)
    observed = explain(parts, images, rows, [0, 1, 1, 0])

    z = expected.logits  # (4, 1)
    assert_same(observed.logits, torch.cat([-z / 2, z / 2], 1), "logits")
    signs = torch.tensor([-0.5, 0.5, 0.5, -0.5])[:, None, None, None]
    assert_same(observed.gradients, signs * expected.gradients, "gradients")
    positive = probabilities(observed.logits, "softmax")[:, 1:]
    torch.testing.assert_close(positive, torch.sigmoid(z))


@pytest.mark.parametrize(("class_scores", "changed"), [("logits", False), ("single_logit", True)])
def test_only_other_outputs_change_the_network(class_scores: ClassScores, changed: bool) -> None:
    network = Heads(1, lambda features, logits: logits)
    returned = return_logits(network, "", class_scores)
    assert returned is network
    assert (type(network) is not Heads) is changed
    assert isinstance(network, Heads)


def test_probabilities_computed_by_hand() -> None:
    logits = torch.tensor([[0.0, 1.0986123, -1.0986123]])  # odds 1, 3 and 1/3
    torch.testing.assert_close(probabilities(logits, "sigmoid"), torch.tensor([[0.5, 0.75, 0.25]]))
    total = 1 + 3 + 1 / 3
    torch.testing.assert_close(probabilities(logits, "softmax"), torch.tensor([[1, 3, 1 / 3]]) / total)
