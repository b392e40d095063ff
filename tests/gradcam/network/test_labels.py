"""Labels files in every form, and classes by index or label."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gradcam.errors import UnknownName
from gradcam.network.architecture import NetworkError
from gradcam.network.labels import Labels


def read(folder: Path, name: str, content: str | bytes | object) -> tuple[str, ...]:
    """Write the content (as JSON, unless it is text or bytes) and read it as labels."""
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return Labels.read(folder / name).names


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.txt", "tench\nmüsli\ncrane, bird\n"),
        ("l.txt", "tench\nmüsli\ncrane, bird"),
        ("l.txt", "tench\r\nmüsli\r\ncrane, bird\r\n"),
        ("l.txt", " tench \nmüsli\t\n  crane, bird\n"),
        ("l.txt", b"\xef\xbb\xbf" + "tench\r\nmüsli\r\ncrane, bird".encode()),
        ("labels", "tench\nmüsli\ncrane, bird"),
        ("l.json", ["tench", "müsli", "crane, bird"]),
        ("l.json", [["n01", "tench"], ["n02", "müsli"], ["n03", "crane, bird"]]),
        ("l.json", {"0": "tench", "1": "müsli", "2": "crane, bird"}),
        ("l.json", {"2": "crane, bird", "0": "tench", "1": "müsli"}),
        ("l.json", {"0": ["n01", "tench"], "1": ["n02", "müsli"], "2": ["n03", "crane, bird"]}),
        ("l.json", b"\xef\xbb\xbf" + '["tench", "müsli", "crane, bird"]'.encode()),
    ],
)
def test_labels_are_read_in_every_form(tmp_path: Path, name: str, content: object) -> None:
    assert read(tmp_path, name, content) == ("tench", "müsli", "crane, bird")


def test_more_than_ten_labels_stay_in_order(tmp_path: Path) -> None:
    names = tuple(f"class {index}" for index in range(12))
    assert read(tmp_path, "l.json", {str(index): name for index, name in enumerate(names)}) == names


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.txt", "", "must have a name for every class"),
        ("l.txt", "a\n\nb\n", "none of them empty"),
        ("l.txt", b"\xff\xfea\0", "Cannot read labels file l.txt"),
        ("l.json", "", "Cannot read labels file l.json"),
        ("l.json", "{", "Cannot read labels file l.json"),
        ("l.json", [], "must have a name for every class"),
        ("l.json", {}, "must have a name for every class"),
        ("l.json", ["a", " "], "none of them empty"),
        ("l.json", ["a", 1], "must have a string as the name of every class"),
        ("l.json", ["a", None], "must have a string as the name of every class"),
        ("l.json", [["n01", 1]], "must have a string as the name of every class"),
        ("l.json", [[]], "must have a string as the name of every class"),
        ("l.json", {"0": {"name": "a"}}, "must have a string as the name of every class"),
        ("l.json", {"0": "a", "2": "b"}, "must have the keys 0 to 1, but 1 is missing"),
        ("l.json", {"1": "a", "2": "b"}, "must have the keys 0 to 1, but 0 is missing"),
        ("l.json", {"tench": 0}, "must have the keys 0 to 0, but 0 is missing"),
        ("l.json", "5", "must be a JSON list of names"),
        ("l.json", '"tench"', "must be a JSON list of names"),
        ("l.json", "null", "must be a JSON list of names"),
    ],
    ids=str,
)
def test_invalid_labels_file(tmp_path: Path, name: str, content: object, message: str) -> None:
    with pytest.raises(NetworkError) as raised:
        read(tmp_path, name, content)
    assert message in str(raised.value)
    assert name in str(raised.value)


@pytest.mark.parametrize("name", ["nowhere.txt", "nowhere.json", "."])
def test_labels_file_that_cannot_be_opened(tmp_path: Path, name: str) -> None:
    with pytest.raises(NetworkError, match="Cannot read labels file"):
        Labels.read(tmp_path / name)


LABELS = Labels(("tabby", "Egyptian cat", "crane", "hen", "crane", "Hen", "MÜSLI"))


@pytest.mark.parametrize(
    ("target", "index"),
    [(0, 0), (6, 6), (2, 2), ("tabby", 0), ("TABBY", 0), ("egyptian CAT", 1), ("hen", 3), ("Hen", 5), ("müsli", 6)],
)
def test_class_by_index_or_label(target: int | str, index: int) -> None:
    assert LABELS.index(target) == index


def unknown(target: int | str) -> UnknownName:
    with pytest.raises(UnknownName) as raised:
        LABELS.index(target)
    assert raised.value.status == 422
    return raised.value


@pytest.mark.parametrize("target", [7, -1, 10**30])
def test_index_out_of_range(target: int) -> None:
    error = unknown(target)
    assert error.code == "unknown_class"
    assert str(error) == f"Class index must be between 0 and 6, got {target}"


@pytest.mark.parametrize(("target", "indices"), [("crane", "2 and 4"), ("CRANE", "2 and 4"), ("HEN", "3 and 5")])
def test_ambiguous_label_error_lists_both_classes(target: str, indices: str) -> None:
    error = unknown(target)
    assert error.code == "ambiguous_class"
    assert str(error) == f"Label {target!r} is ambiguous: classes {indices} have it; send an index"


def test_unknown_label_error_suggests_similar_labels() -> None:
    error = unknown("tabbi cat")
    assert error.code == "unknown_class"
    assert str(error).startswith("Unknown label 'tabbi cat'; did you mean ")
    assert "'tabby'" in str(error)
    assert str(unknown("egypt cat")).endswith("did you mean 'Egyptian cat'?")
    assert str(unknown("qqqq")) == "Unknown label 'qqqq'"


@pytest.mark.parametrize("target", ["x" * 1_000_000, "\ud800", "\0"], ids=["long", "surrogate", "nul"])
def test_strange_labels_are_unknown(target: str) -> None:
    assert len(str(unknown(target))) < 1000


def test_labels_that_contain_the_word_come_first() -> None:
    labels = Labels(("crate", "cattle", "muscat", "tiger cat", "cat bear", "Egyptian Cat", "dog"))
    with pytest.raises(UnknownName) as failure:
        labels.index("cat")
    suggested = re.findall(r"'([^']+)'", str(failure.value).partition("; ")[2])
    assert suggested == ["tiger cat", "cat bear", "Egyptian Cat", "cattle", "muscat"]


@pytest.mark.parametrize("label", ["c++", "(", "a" * 1_000_000, "\\b"])
def test_suggestions_for_any_text(label: str) -> None:
    with pytest.raises(UnknownName, match=r"^Unknown label"):
        Labels(("tabby", "crate")).index(label)
