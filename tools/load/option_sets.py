"""The sets of options that a load test sends, each with the answer that it expects."""

from __future__ import annotations

from collections.abc import Callable

from tools.load.answer import ParsedAnswer
from tools.load.checking import Expectation

EXPLAINED_CLASSES = 3


def two_classes(reference: ParsedAnswer) -> Expectation:
    """Request the second and the first of the predicted classes."""
    classes = tuple(entry.index for entry in reversed(reference.predictions[:2]))
    return Expectation({"targets": ",".join(map(str, classes))}, classes)


def most_probable(reference: ParsedAnswer) -> Expectation:
    """Request several of the most probable classes."""
    count = min(EXPLAINED_CLASSES, len(reference.predictions))
    return Expectation({"explain": str(count)}, count)


OPTION_SETS: dict[str, Callable[[ParsedAnswer], Expectation]] = {
    "default": lambda _: Expectation(),
    "targets": two_classes,
    "explain": most_probable,
    "overlay": lambda _: Expectation({"overlay": "jpeg"}, overlay=True),
    "none": lambda _: Expectation({"explain": "0"}, 0),
}
