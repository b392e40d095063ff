"""How two versions are compared, with canned answers; tests/server has real versions."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tools.client.answers import Answer, Explanation, Prediction
from tools.client.client import Client
from tools.client.compare import Comparison, add_to_report, compare, cosine, print_comparison
from tools.client.endpoint import OptionValue
from tools.client.errors import ImageRejected
from tools.client.html_report import HtmlReport


class CannedClient(Client):
    """Answers without a server: `plain` to a request without options, `for_target` to one with targets."""

    def __init__(self, plain: Answer | ImageRejected, for_target: Answer | ImageRejected | None = None) -> None:
        super().__init__()
        self.plain, self.for_target = plain, for_target

    def explain(self, image: bytes, **options: OptionValue) -> Answer:
        result: Answer | ImageRejected | None = self.plain
        if options:
            assert options == {"targets": ["cat"]}
            result = self.for_target
        assert result is not None
        if isinstance(result, ImageRejected):
            raise result
        return result


def answer(label: str, heatmap: list[list[float]]) -> Answer:
    return Answer(
        (Prediction(0, label, 0.9),), (Explanation(0, label, 0.9, (0, 0), heatmap, None),), "gradcam", "layer4", {}
    )


def rejected(code: str) -> ImageRejected:
    return ImageRejected(code, "…", 400)


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


@pytest.mark.parametrize(
    ("before", "after", "after_for_target", "expected"),
    [
        (answer("cat", [[1, 0]]), answer("cat", [[1, 0]]), None, ("cat", "cat", 1.0, True)),
        # Maps are of the old version's class.
        (answer("cat", [[1, 0]]), answer("dog", [[0, 1]]), answer("dog", [[1, 0]]), ("cat", "dog", 1.0, True)),
        # The new version does not have it.
        (answer("cat", [[1, 0]]), answer("dog", [[0, 1]]), rejected("unknown_class"), ("cat", "dog", None, True)),
        (answer("cat", [[1, 0]]), rejected("x"), rejected("x"), ("cat", "error x", None, False)),
        (rejected("x"), answer("cat", [[1, 0]]), None, ("error x", "cat", None, True)),
        (rejected("x"), rejected("x"), None, ("error x", "error x", None, True)),
    ],
)
def test_two_versions_are_compared_on_the_class_of_the_old_one(
    tmp_path: Path,
    before: Answer | ImageRejected,
    after: Answer | ImageRejected,
    after_for_target: Answer | ImageRejected | None,
    expected: tuple[str, str, float | None, bool],
) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"image")
    with CannedClient(before) as old, CannedClient(after, after_for_target) as new:
        result = compare(old, new, image)
    assert (result.old, result.new, result.cosine, result.answered) == expected


@pytest.mark.parametrize(
    ("min_agreement", "min_cosine", "third", "good"),
    [
        (0.66, 0.7, "cat", True),
        (0.67, 0.7, "cat", False),
        (0.66, 0.76, "cat", False),
        (0.0, 0.0, "error x", False),
    ],
)
def test_close_enough_requires_all_three(min_agreement: float, min_cosine: float, third: str, good: bool) -> None:
    comparisons = [
        Comparison(Path("1"), "cat", "cat", 1.0, True),
        Comparison(Path("2"), "cat", "dog", 0.5, True),
        Comparison(Path("3"), third if third == "cat" else "cat", third, None, third == "cat"),
    ]
    console = Console(file=io.StringIO(), width=200)
    assert print_comparison(comparisons, min_agreement, min_cosine, console) is good


def test_a_report_has_both_versions(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.new("RGB", (4, 4)).save(path)
    old, new, for_cat = answer("cat", [[1, 0]]), answer("dog", [[0, 1]]), answer("cat", [[0.5, 1]])
    old, new, for_cat = (
        replace(each, document={"predictions": [label], "explanations": [label], "version": version})
        for each, label, version in ((old, "cat", 1), (new, "dog", 2), (for_cat, "cat for new", 2))
    )
    with HtmlReport(tmp_path / "report.html", "m") as report:
        for second in (new, rejected("undecodable_image")):
            add_to_report(report, compare(CannedClient(old), CannedClient(second, for_cat), path))

    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    (entry,) = re.findall('class="entry">(.*?)</script>', page)
    shown = json.loads(entry)
    assert (shown["predictions"], shown["explanations"], shown["version"]) == (["cat"], ["cat"], 1)
    assert shown["other"] == {"predictions": ["dog"], "explanations": ["cat for new"], "version": 2}
    assert shown["cosine"] == pytest.approx(5**-0.5)
    (error,) = re.findall('class="error">(.*?)</script>', page)
    assert json.loads(error)["message"] == "old version: cat, new version: error undecodable_image"
