"""The error tree's documentation, and the texts that messages are built from."""

from __future__ import annotations

import ast
import re

import pytest

from gradcam import errors
from gradcam.errors import RequestError, suggestions, truncated_repr, unknown_message
from tools.paths import HANDLER

CLASSES = {kind.__name__: kind for kind in RequestError.__subclasses__()}
DOCUMENTED = {
    name: (int(status), set(sources.split(", ")))
    for name, status, sources in re.findall(r"(\w+) +(\d{3})  .*\(([\w, ]+)\)$", str(errors.__doc__), re.MULTILINE)
}


def sources() -> dict[str, set[str]]:
    """Return, by class, the modules and packages of `gradcam` that create such an error."""
    found: dict[str, set[str]] = {name: set() for name in CLASSES}
    folder = HANDLER / "gradcam"
    for path in folder.rglob("*.py"):
        unit = path.relative_to(folder).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLASSES:
                found[node.func.id].add(unit)
    return found


def test_tree_has_every_error_with_its_status_and_sources() -> None:
    created = sources()
    assert {name: (kind.status, created[name]) for name, kind in CLASSES.items()} == DOCUMENTED


def test_codes_are_distinct() -> None:
    assert len({kind.code for kind in CLASSES.values()}) == len(CLASSES) == 9


def test_a_code_may_be_more_specific_than_its_class() -> None:
    error = errors.UnknownName("Unknown class 'cart'", code="unknown_class")
    assert (str(error), error.code, errors.UnknownName.code) == (
        "Unknown class 'cart'",
        "unknown_class",
        "unknown_name",
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, "5"),
        ("x", "'x'"),
        (None, "None"),
        ("é" * 60, f"'{'é' * 27}...{'é' * 28}'"),
        (10**400, f"{'1' + '0' * 27}...{'0' * 29}"),
    ],
    ids=["integer", "text", "none", "long text", "long integer"],
)
def test_truncated_repr(value: object, expected: str) -> None:
    assert truncated_repr(value) == expected


@pytest.mark.parametrize(
    "value", ["x" * 10**6, list(range(10_000)), {str(key): "x" * 50 for key in range(100)}, 10**4000], ids=type
)
def test_truncated_repr_is_short(value: object) -> None:
    assert len(truncated_repr(value)) <= errors.MAX_REPR_CHARACTERS


def test_unknown_message_lists_similar_and_valid_names() -> None:
    valid = ("gradcam", "layercam")
    assert unknown_message("method", "gradcm", valid) == (
        "Unknown method 'gradcm'; did you mean 'gradcam'? Valid methods: gradcam, layercam"
    )
    assert unknown_message("method", "qqqq", valid) == "Unknown method 'qqqq'; valid methods: gradcam, layercam"


def test_suggestions_ignore_case_and_long_names() -> None:
    assert suggestions("TABBY", ["tabby", "tench"]) == "; did you mean 'tabby'?"
    assert suggestions("cat", ["cart", "bat"]) == "; did you mean 'cart' or 'bat'?"
    assert suggestions("tabby" * 100, ["tabby"]) == ""
    assert suggestions("", ["tabby"]) == ""
