"""Each option set's options and expected answer."""

from __future__ import annotations

from tests.support.answers import DOCUMENT
from tools.load.answer import parse
from tools.load.checking import Expectation
from tools.load.option_sets import OPTION_SETS


def test_option_sets() -> None:
    assert {name: expectation(parse(DOCUMENT)) for name, expectation in OPTION_SETS.items()} == {
        "default": Expectation({}, 1),
        "targets": Expectation({"targets": "3,7"}, (3, 7)),
        "explain": Expectation({"explain": "2"}, 2),  # there are only two
        "overlay": Expectation({"overlay": "jpeg"}, 1, overlay=True),
        "none": Expectation({"explain": "0"}, 0),
    }
