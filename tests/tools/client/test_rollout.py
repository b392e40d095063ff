"""What `rollout.py` makes of the answers of two versions."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from rich.console import Console

from tools.client import rollout
from tools.client.rollout import Compared, RolloutError, Served, cosine

OLD, NEW = Served("http://old/", "a b", "1.0"), Served("http://new", "a b", "2.0")


def answer(label: str, heatmap: list[list[float]]) -> dict[str, Any]:
    return {"predictions": [{"label": label}], "explanations": [{"label": label, "heatmap": heatmap}]}


def refused(code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": "…"}}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([[1, 0], [0, 0]], [[1, 0], [0, 0]], 1.0),
        ([[1, 0], [0, 0]], [[0, 1], [0, 0]], 0.0),
        ([[1, 1], [0, 0]], [[1, 0], [0, 0]], 2**-0.5),
        ([[0, 0], [0, 0]], [[0, 0], [0, 0]], 1.0),
        ([[0, 0], [0, 0]], [[1, 0], [0, 0]], 0.0),
        ([[1, 1], [1, 1]], [[0.5]], 1.0),
    ],
)
def test_cosine_of_maps(old: list[list[float]], new: list[list[float]], expected: float) -> None:
    assert cosine(np.array(old, np.float32), np.array(new, np.float32)) == pytest.approx(expected)


def test_an_endpoint_names_its_version() -> None:
    assert OLD.endpoint == "http://old/predictions/a%20b/1.0"


@pytest.mark.parametrize(
    ("before", "after", "after_asked", "expected"),
    [
        (answer("cat", [[1, 0]]), answer("cat", [[1, 0]]), None, ("cat", "cat", 1.0, True)),
        # Maps are of the old version's class.
        (answer("cat", [[1, 0]]), answer("dog", [[0, 1]]), answer("dog", [[1, 0]]), ("cat", "dog", 1.0, True)),
        # The new version does not have it.
        (answer("cat", [[1, 0]]), answer("dog", [[0, 1]]), refused("unknown_class"), ("cat", "dog", None, True)),
        (answer("cat", [[1, 0]]), refused("x"), refused("x"), ("cat", "error x", None, False)),
        (refused("x"), answer("cat", [[1, 0]]), None, ("error x", "cat", None, True)),
        (refused("x"), refused("x"), None, ("error x", "error x", None, True)),
    ],
)
def test_two_versions_are_compared_on_the_class_of_the_old_one(
    monkeypatch: pytest.MonkeyPatch,
    before: dict[str, Any],
    after: dict[str, Any],
    after_asked: dict[str, Any] | None,
    expected: tuple[str, str, float | None, bool],
) -> None:
    def ask(session: Any, served: Served, picture: Path, **options: str) -> dict[str, Any]:
        if options:
            assert (served, options) == (NEW, {"targets": '"cat"'})
            assert after_asked is not None
            return after_asked
        return before if served is OLD else after

    monkeypatch.setattr(rollout, "ask", ask)
    with requests.Session() as session:
        found = rollout.compare(session, OLD, NEW, Path("picture"))
    assert (found.old, found.new, found.cosine, found.answered) == expected


def test_labels_are_quoted_as_the_option_reads_them() -> None:
    assert rollout.csv_quoted('a "b", c') == '"a ""b"", c"'


@pytest.mark.parametrize(
    ("agreement", "least", "third", "good"),
    [
        (0.66, 0.7, "cat", True),
        (0.67, 0.7, "cat", False),
        (0.66, 0.76, "cat", False),
        (0.0, 0.0, "error x", False),
    ],
)
def test_near_enough_is_all_three(agreement: float, least: float, third: str, good: bool) -> None:
    compared = [
        Compared(Path("1"), "cat", "cat", 1.0, True),
        Compared(Path("2"), "cat", "dog", 0.5, True),
        Compared(Path("3"), third if third == "cat" else "cat", third, None, third == "cat"),
    ]
    console = Console(file=io.StringIO(), width=200)
    assert rollout.report(compared, agreement, least, console) is good


def test_an_archive_says_what_it_is(tmp_path: Path) -> None:
    archive = tmp_path / "x.mar"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("MAR-INF/MANIFEST.json", '{"model": {"modelName": "own", "modelVersion": "2.0"}}')
    assert rollout.identity(archive) == ("own", "2.0")
    with pytest.raises(RolloutError, match="not a model archive"):
        rollout.identity(Path(__file__))
