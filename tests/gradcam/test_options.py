"""Types and ranges of every option, and how layers of options are merged."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from gradcam.errors import InvalidOption, RequestError
from gradcam.options import PARSERS, Options, merge, parse, read


def options(**members: Any) -> Options:
    return read(members)


def rejected(**members: Any) -> str:
    with pytest.raises(RequestError) as raised:
        read(members)
    error = raised.value
    assert (type(error), error.code, error.status) == (InvalidOption, "invalid_option", 400)
    return str(error)


# ----------------------------------------------------------------------------- merging


def test_later_layers_replace_earlier_ones() -> None:
    layers: list[dict[str, object]] = [{"topk": "9", "heatmap": "none"}, {"topk": 3, "alpha": 0.5}, {"topk": 2}]
    assert merge(layers) == {"topk": 2, "heatmap": "none", "alpha": 0.5}
    assert parse(layers) == Options(topk=2, heatmap="none", alpha=0.5)
    assert parse([]) == parse([{}, {}]) == Options()


def test_later_targets_explain_and_threshold_replace_one_another() -> None:
    assert merge([{"explain": "2"}, {"targets": [7]}]) == {"targets": [7]}
    assert merge([{"targets": [7]}, {"explain": 2}]) == {"explain": 2}
    assert merge([{"explain": 1}, {"targets": [7]}, {"explain": 3}]) == {"explain": 3}
    assert merge([{"explain": 1, "topk": 7}, {"threshold": 0.5}]) == {"topk": 7, "threshold": 0.5}
    assert merge([{"threshold": 0.5}, {"targets": [7]}]) == {"targets": [7]}
    assert merge([{"explain": 1}, {"topk": 7}]) == {"explain": 1, "topk": 7}


def test_read_takes_one_mapping_and_defaults() -> None:
    assert read({"topk": 7}, {"topk": 3, "alpha": "1"}) == Options(topk=7, alpha=1.0)
    assert read({"topk": 7}) == Options(topk=7)


def test_merging_changes_no_layer() -> None:
    layers: list[dict[str, object]] = [{"explain": 1}, {"targets": [7]}]
    merge(layers)
    assert layers == [{"explain": 1}, {"targets": [7]}]


def test_every_field_has_a_parser() -> None:
    assert list(PARSERS) == [*Options.__dataclass_fields__]


def test_number_of_explained_classes() -> None:
    assert Options().explained_classes == 1
    assert Options(explain=0).explained_classes == 0
    assert Options(targets=(1, 2)).explained_classes == 2
    assert Options(threshold=0.5).explained_classes == 1


# ----------------------------------------------------------------------------- values


@pytest.mark.parametrize("value", [3, 3.0, "3", b"3", " 3 ", "003", bytearray(b"3")], ids=repr)
def test_counts(value: Any) -> None:
    assert options(topk=value).topk == 3
    assert options(explain=value).explain == 3


def test_explain_may_be_zero() -> None:
    assert options(explain=0).explain == 0
    assert options(explain="0").explain == 0


def test_a_huge_count_is_left_to_admission() -> None:
    assert options(topk=10**30).topk == 10**30


@pytest.mark.parametrize(
    "value",
    [0, -1, "0", "-1", 2.5, "2.0", "", " ", "x", None, True, False, [1], {}, math.nan, math.inf, "٣", b"1e3"],
    ids=repr,
)
def test_invalid_topk(value: Any) -> None:
    shown = value.decode() if isinstance(value, bytes) else value
    assert rejected(topk=value) == f"topk must be an integer of at least 1, got {shown!r}"


@pytest.mark.parametrize("value", [-1, "-1", 0.5, True, None, "none", "9" * 10], ids=repr)
def test_invalid_explain(value: Any) -> None:
    assert rejected(explain=value) == f"explain must be an integer of at least 0, got {value!r}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (281, (281,)),
        ([281.0], (281,)),
        ("281", (281,)),
        (b"281,285", (281, 285)),
        ([281, "285", "tabby"], (281, 285, "tabby")),
        ("tabby", ("tabby",)),
        (" tabby , Egyptian cat,7 ", ("tabby", "Egyptian cat", 7)),
        ('"crane, bird", 5', ("crane, bird", 5)),
        ('281, "crane, bird" , 7', (281, "crane, bird", 7)),
        ('281,"crane, bird"', (281, "crane, bird")),
        ('"a ""quoted"" one"', ('a "quoted" one',)),
        (["crane, bird"], ("crane, bird",)),
        ("müsli", ("müsli",)),
        ("müsli".encode(), ("müsli",)),
        ([281, 281], (281, 281)),
        (-1, (-1,)),
        ("9" * 12, ("9" * 12,)),
        (10**30, (10**30,)),
        ("one\nline", ("one\nline",)),
    ],
    ids=repr,
)
def test_targets(value: Any, expected: tuple[int | str, ...]) -> None:
    assert options(targets=value).targets == expected


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("1,,2", "''"),
        ("1,", "''"),
        ([""], "''"),
        (["  "], "'  '"),
        (1.5, "1.5"),
        (True, "True"),
        (None, "None"),
        ([[1]], "[1]"),
        ({"a": 1}, "{'a': 1}"),
        (math.nan, "nan"),
        ([1, None], "None"),
        ([False], "False"),
    ],
    ids=repr,
)
def test_invalid_targets(value: Any, shown: str) -> None:
    expected = f"targets must be indices or labels, such as 281 or 'tabby', got {shown}"
    assert rejected(targets=value) == expected


@pytest.mark.parametrize("value", ["", []], ids=repr)
def test_targets_without_a_class(value: Any) -> None:
    assert "targets must name at least one class" in rejected(targets=value)


def targets_or_error(text: str) -> tuple[int | str, ...] | RequestError:
    try:
        return options(targets=text).targets or ()
    except RequestError as error:
        return error


@pytest.mark.parametrize(
    "label",
    ["x" * 200_000, "one\rline", "a\0b", '"' * 1001, '"never closed'],
    ids=["long", "cr", "nul", "quotes", "open"],
)
def test_odd_text_of_targets_is_parsed_or_rejected(label: str) -> None:
    parsed = targets_or_error(label)
    assert "targets" in str(parsed) if isinstance(parsed, RequestError) else len(parsed) == 1
    assert len(str(parsed)) < 250_000


def test_targets_and_explain_are_mutually_exclusive() -> None:
    assert "'targets' and 'explain' are mutually exclusive" in rejected(targets=[1], explain=2)
    assert "'targets' and 'explain'" in rejected(targets="1", explain="2")
    assert "'explain' and 'threshold' are mutually exclusive" in rejected(threshold=0.5, explain=2)
    assert "'targets' and 'explain' and 'threshold'" in rejected(threshold=0.5, targets=[1], explain=2)


@pytest.mark.parametrize("name", ["method", "colormap"])
def test_names(name: str) -> None:
    assert getattr(options(**{name: " x.1 "}), name) == "x.1"
    for value in ("", "  ", 5, None, ["x"], {"x": 1}, True):
        assert rejected(**{name: value}) == f"{name} must be a name, got {value!r}"


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("heatmap", ("grid", "none"), ("png", "Grid", "", 1, None, ["grid"])),
        ("overlay", ("png", "jpeg", "none"), ("jpg", "webp", "", True, {})),
    ],
)
def test_choices(name: str, good: tuple[str, ...], bad: tuple[Any, ...]) -> None:
    for value in good:
        assert getattr(options(**{name: value}), name) == value
        assert getattr(options(**{name: value.encode()}), name) == value
    for value in bad:
        assert rejected(**{name: value}) == f"{name} must be one of {', '.join(good)}; got {value!r}"


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0.0), (1, 1.0), (0.25, 0.25), ("0.25", 0.25), (b".5", 0.5), ("1e-1", 0.1), (" 1 ", 1.0)]
)
def test_shares(value: Any, expected: float) -> None:
    assert options(alpha=value).alpha == expected
    assert options(threshold=value).threshold == expected


@pytest.mark.parametrize(
    "value",
    [-0.1, 1.1, "2", math.nan, math.inf, "nan", "-inf", "1e999", "", "half", None, True, [0.5], {}, "0,5"],
    ids=repr,
)
def test_invalid_shares(value: Any) -> None:
    assert rejected(alpha=value) == f"alpha must be between 0 and 1, got {value!r}"
    assert rejected(threshold=value) == f"threshold must be between 0 and 1, got {value!r}"


def test_a_number_too_large_for_a_float() -> None:
    assert "alpha must be between 0 and 1, got 1000" in rejected(alpha=10**400)


@pytest.mark.parametrize(
    ("value", "layers"),
    [
        ("layer4", ("layer4",)),
        (b"layer4, layer3", ("layer4", "layer3")),
        (["layer4", "layer3"], ("layer4", "layer3")),
    ],
)
def test_layers(value: Any, layers: tuple[str, ...]) -> None:
    assert options(layer=value).layer == layers


@pytest.mark.parametrize("value", ["", "layer4,,layer3", [], [3], 7, {"a": 1}])
def test_invalid_layers(value: Any) -> None:
    assert "layer must be" in rejected(layer=value)


@pytest.mark.parametrize(
    ("value", "smooth"), [("true", True), (b"False", False), (True, True), (False, False), ("1", True), (0, False)]
)
def test_smooth(value: Any, smooth: bool) -> None:
    assert options(smooth=value).smooth is smooth


@pytest.mark.parametrize("value", ["yes", 2, 1.0, None, [True]])
def test_invalid_smooth(value: Any) -> None:
    assert "smooth must be true or false" in rejected(smooth=value)


@pytest.mark.parametrize(
    ("name", "near"),
    [("top_k", "topk"), ("TopK", "topk"), ("target", "targets"), ("colourmap", "colormap"), ("layers", "layer")],
)
def test_an_unknown_option_suggests_similar_names(name: str, near: str) -> None:
    message = rejected(**{name: 1})
    assert f"Unknown option {name!r}" in message
    assert f"did you mean {near!r}" in message
    assert f"Valid options: {', '.join(PARSERS)}" in message


def test_an_unknown_option_without_a_similar_name() -> None:
    assert "did you mean" not in rejected(qqqqqq=1)
    assert rejected(foo="1").startswith("Unknown option 'foo'; valid options: topk")


def test_invalid_utf_8() -> None:
    message = rejected(targets=b"tabby,\xff")
    assert message == "targets must be UTF-8 text, got an invalid start byte at byte 6"


def deepest(template: str) -> Any:
    """Return the document with, in place of %, the deepest list that `json` parses."""
    low, high = 1, 100_000
    while high - low > 1:
        middle = (low + high) // 2
        try:
            json.loads(template.replace("%", "[" * middle + "]" * middle))
            low = middle
        except RecursionError:
            high = middle
    return json.loads(template.replace("%", "[" * low + "]" * low))


@pytest.mark.parametrize("member", ["topk", "targets", "alpha", "method", "heatmap"])
def test_deeply_nested_json_is_rejected(member: str) -> None:
    message = rejected(**deepest(f'{{"{member}": %}}'))
    assert message.startswith(f"{member} must ")


def test_a_long_value_is_quoted_in_part() -> None:
    assert len(rejected(topk="9" * 100_000)) < 200
