"""Every mismatch between two answers is detected; differences by rounding are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.support.answers import DOCUMENT, changed, document, explanation, jpeg_url
from tools.load import checking
from tools.load.answer import parse
from tools.load.checking import AmbiguousAnswers, Expectation, RecordedAnswer, mismatches, record_baseline
from tools.load.connection import BROKEN, Exchange
from tools.load.option_sets import OPTION_SETS
from tools.load.protocols import PROTOCOLS
from tools.load.request import TestRequest
from tools.load.synthetic import make_requests

REFERENCE = parse(DOCUMENT)
SINGLE = {
    **DOCUMENT,
    "predictions": [{"index": 1, "label": "one", "probability": 0.3}, {"index": 2, "label": "two", "probability": 0.2}],
    "explanations": [explanation(2, "two", 0.2, [[0.0, 1.0]])],
}
RECORDED = RecordedAnswer(200, json.dumps(SINGLE))
REJECTED = RecordedAnswer(400, '{"error":{"code":"invalid_option","message":"no 7"}}')


def first_mismatch(other: dict[str, Any], expectation: Expectation) -> str | None:
    return next(mismatches(parse(other), expectation, REFERENCE), None)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_answers_of_all_protocols_match(protocol: str) -> None:
    answer = PROTOCOLS[protocol].parse(json.dumps(document(protocol)).encode())

    assert list(mismatches(answer, Expectation(classes=(7, 3)), REFERENCE)) == []


def test_differences_by_rounding_match() -> None:
    other = changed(lambda answer: answer["predictions"][0].update(probability=0.61))
    other["explanations"][0]["heatmap"][0][2] = 0.23

    assert first_mismatch(other, Expectation(classes=2)) is None


def test_equally_probable_classes_may_change_places() -> None:
    other = changed(lambda answer: answer["predictions"][1].update(index=4, label="rat", probability=0.245))
    other["explanations"].pop()

    assert first_mismatch(other, Expectation()) is None


@pytest.mark.parametrize(
    ("mismatch", "change"),
    [
        ("another size or region", lambda d: d["image"].update(width=61)),
        ("another size or region", lambda d: d["image"].update(region=[11, 0, 51, 40])),
        ("other probabilities", lambda d: d["predictions"][0].update(probability=0.65)),
        ("other probabilities", lambda d: d["predictions"].pop()),
        ("another label", lambda d: d["predictions"][1].update(label="cat")),
        ("other classes", lambda d: d["predictions"][0].update(index=4, label="rat")),
        ("other classes explained", lambda d: d["explanations"].reverse()),
        ("other classes explained", lambda d: d["explanations"].pop()),
        ("another heatmap", lambda d: d["explanations"][0]["heatmap"][1].reverse()),
        ("another heatmap", lambda d: d["explanations"][1].update(d["explanations"][0], index=3)),
        ("another probability of an explained class", lambda d: d["explanations"][0].update(probability=0.7)),
        ("heatmap has another shape", lambda d: d["explanations"][0]["heatmap"].pop()),
        ("heatmap has another shape", lambda d: d["explanations"][0].update(heatmap=[[]])),
        ("heatmap does not range from 0 to 1", lambda d: d["explanations"][0].update(heatmap=[[0.0] * 3] * 2)),
        ("heatmap does not range from 0 to 1", lambda d: d["explanations"][0].update(heatmap=[[1.0, -1.0, 0.0]] * 2)),
        ("heatmap does not range from 0 to 1", lambda d: d["explanations"][0].update(heatmap=[[1, np.nan, 0]] * 2)),
        ("heatmap does not range from 0 to 1", lambda d: d["explanations"][0].update(evidence=False, peak=None)),
        ("peak without evidence, or evidence without peak", lambda d: d["explanations"][0].update(peak=None)),
        ("peak without evidence, or evidence without peak", lambda d: d["explanations"][1].update(peak=[31, 4])),
        ("peak outside the region", lambda d: d["explanations"][0].update(peak=[50, 4])),
        ("unrequested overlay", lambda d: d["explanations"][0].update(overlay=jpeg_url(60, 40))),
    ],
)  # fmt: skip
def test_mismatch(mismatch: str, change: Callable[[dict[str, Any]], object]) -> None:
    assert first_mismatch(changed(change), Expectation(classes=(7, 3))) == mismatch


@pytest.mark.parametrize("overlay", [None, jpeg_url(40, 60), "data:image/jpeg;base64,AAAA"])
def test_missing_or_wrong_overlay(overlay: str | None) -> None:
    other = changed(lambda answer: answer["explanations"].pop())
    expectation = OPTION_SETS["overlay"](REFERENCE)
    assert first_mismatch(other, expectation) == "overlay missing or not an image of the right size"

    other["explanations"][0].update({} if overlay is None else {"overlay": overlay})
    assert first_mismatch(other, expectation) == "overlay missing or not an image of the right size"

    other["explanations"][0].update(overlay=jpeg_url(60, 40))
    assert first_mismatch(other, expectation) is None


# ----------------------------------------------------------------------------- recorded answers


def changed_single(change: Callable[[dict[str, Any]], object]) -> str:
    copied = json.loads(RECORDED.text)
    change(copied)
    return json.dumps(copied)


def test_recorded_answer_matches_to_rounding() -> None:
    assert RECORDED.matches(200, RECORDED.text)
    assert RECORDED.matches(200, changed_single(lambda d: d["predictions"][0].update(probability=0.3000019)))
    assert RECORDED.matches(200, changed_single(lambda d: d["explanations"][0].update(heatmap=[[0.00009, 1.0]])))
    assert REJECTED.matches(400, REJECTED.text)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["image"].update(width=5),
        lambda d: d["explanations"][0].update(index=1),
        lambda d: d["explanations"][0].update(probability=0.201),
        lambda d: d["explanations"][0].update(heatmap=[[0.001, 1.0]]),
        lambda d: d["predictions"][0].update(probability=0.31),
    ],
)
def test_recorded_answer_does_not_match_another(change: Callable[[dict[str, Any]], object]) -> None:
    assert not RECORDED.matches(200, changed_single(change))


def test_recorded_answer_does_not_match_a_malformed_one() -> None:
    assert not RECORDED.matches(200, "{}")


def test_errors_match_by_status_and_message() -> None:
    assert not REJECTED.matches(400, REJECTED.text.replace("7", "8"))
    assert not REJECTED.matches(422, REJECTED.text)
    assert not REJECTED.matches(200, RECORDED.text)
    assert not RECORDED.matches(400, REJECTED.text)


class Replies:
    """A connection with prepared replies."""

    def __init__(self, *texts: str) -> None:
        self.exchanges = [Exchange(0.0, 1.0, 400, text.encode()) for text in texts]

    def __enter__(self) -> Replies:
        return self

    def __exit__(self, *_: object) -> None: ...

    def post(self, request: TestRequest) -> Exchange:
        return self.exchanges.pop(0)


def test_requests_with_the_same_answer_are_ambiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = make_requests(3)
    monkeypatch.setattr(checking, "Connection", lambda url: Replies("no 1", "no 2", "no 1"))

    assert record_baseline("http://server", requests[:2]) == [RecordedAnswer(400, "no 1"), RecordedAnswer(400, "no 2")]
    with pytest.raises(AmbiguousAnswers, match="no 1"):
        record_baseline("http://server", requests)


def test_baseline_needs_a_response_to_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    replies = Replies("no 1")
    replies.exchanges.append(Exchange(0.0, 1.0, failure=BROKEN))
    monkeypatch.setattr(checking, "Connection", lambda url: replies)

    with pytest.raises(ConnectionError, match="No response from http://server: connection broken"):
        record_baseline("http://server", make_requests(2))
