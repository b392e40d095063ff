"""What counts as a request's own answer, and how a scenario is summed up."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest
import requests

from tools.load import misbehaving_clients as weak_clients
from tools.load import scenarios as faults
from tools.load import traffic
from tools.load.traffic import BROKEN, NO_ANSWER, NOT_CONNECTED, Answer, Outcome, Question

DOCUMENT: dict[str, Any] = {
    "predictions": [
        {"index": 1, "label": "one", "probability": 0.3},
        {"index": 2, "label": "two", "probability": 0.2},
    ],
    "explanations": [{"index": 2, "probability": 0.2, "heatmap": [[0.0, 1.0]]}],
    "image": {"width": 4, "height": 3},
}
KNOWN = Answer(200, json.dumps(DOCUMENT))
REFUSED = Answer(400, '{"error":{"code":"invalid_option","message":"no 7"}}')


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(KNOWN.text)
    change(document)
    return json.dumps(document)


def test_own_answer_to_rounding() -> None:
    assert KNOWN.belongs(200, KNOWN.text)
    assert KNOWN.belongs(200, changed(lambda own: own["predictions"][0].update(probability=0.3000019)))
    assert KNOWN.belongs(200, changed(lambda own: own["explanations"][0].update(heatmap=[[0.00009, 1.0]])))
    assert REFUSED.belongs(400, REFUSED.text)


@pytest.mark.parametrize(
    "change",
    [
        lambda own: own["image"].update(width=5),
        lambda own: own["explanations"][0].update(index=1),
        lambda own: own["explanations"][0].update(probability=0.201),
        lambda own: own["explanations"][0].update(heatmap=[[0.001, 1.0]]),
        lambda own: own["predictions"][0].update(probability=0.31),
    ],
)
def test_answer_of_another(change: Callable[[dict[str, Any]], object]) -> None:
    assert not KNOWN.belongs(200, changed(change))


def test_refusals_are_their_words() -> None:
    assert not REFUSED.belongs(400, REFUSED.text.replace("7", "8"))
    assert not REFUSED.belongs(422, REFUSED.text)
    assert not REFUSED.belongs(200, KNOWN.text)
    assert not KNOWN.belongs(400, REFUSED.text)


def test_outcome_of_an_answer() -> None:
    own = traffic.judged(0, 200, KNOWN.text, KNOWN)
    other = traffic.judged(0, 400, REFUSED.text, KNOWN)
    died = traffic.judged(0, 507, '{"code": 507, "type": "Internal", "message": "Worker died."}', KNOWN)
    garbled = traffic.judged(0, 502, "<html>", KNOWN)

    assert (own.kind, own.good, own.wrong) == ("200", True, False)
    assert (other.kind, other.good, other.wrong) == ("400", False, True)
    assert (died.kind, died.good, died.wrong, died.message) == ("507 Internal", False, False, "Worker died.")
    assert (garbled.kind, garbled.good, garbled.wrong) == ("502 without JSON", False, False)


def test_outcome_without_an_answer() -> None:
    assert traffic.failure(requests.ReadTimeout()) == NO_ANSWER
    assert traffic.failure(requests.ConnectionError("NewConnectionError(…)")) == NOT_CONNECTED
    assert traffic.failure(requests.ConnectionError("reset")) == BROKEN


def test_questions_differ() -> None:
    questions = traffic.make_questions(12, 12)

    assert len({(asked.body, *asked.headers.items()) for asked in questions}) == 24


def test_questions_with_the_same_answer_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    session = MagicMock()
    replies = [Mock(status_code=400, text=text) for text in ("no 1", "no 2", "no 1")]
    session.return_value.__enter__.return_value.post.side_effect = [*replies[:2], *replies]
    monkeypatch.setattr(traffic, "session", session)
    questions = traffic.make_questions(3)

    assert traffic.learn("http://server", questions[:2]) == [Answer(400, "no 1"), Answer(400, "no 2")]
    with pytest.raises(traffic.Confusable, match="no 1"):
        traffic.learn("http://server", questions)


def test_report() -> None:
    outcomes = [
        Outcome(sent=0.0, ended=1.0, kind="200", good=True),
        Outcome(sent=1.0, ended=4.0, kind="200", good=True),  # sent before the fault
        Outcome(sent=2.0, ended=2.5, kind="507 Internal", good=False, message="Worker died."),
        Outcome(sent=2.5, ended=9.0, kind=NO_ANSWER, good=False),
        Outcome(sent=3.0, ended=6.0, kind="200", good=True),
        Outcome(sent=4.0, ended=7.0, kind="400", good=False, wrong=True),
        Outcome(sent=5.0, ended=7.0, kind="422", good=True),
    ]

    summed = faults.report("fault", outcomes, fault=2.0, left=[], more=1)

    assert (summed.sent, summed.answered, summed.refused) == (7, 3, 1)
    assert summed.errors == {"507 Internal": 1, NO_ANSWER: 1, "400": 1}
    assert summed.messages == {"507 Internal": "Worker died."}
    assert (summed.wrong, summed.lost) == (1, 1)
    assert summed.recovery_seconds == 4.0
    assert summed.slowest_seconds == 3.0
    assert summed.figures == {"more": 1}
    assert faults.rate(outcomes, 0.5, 4.5) == 0.5


def test_never_recovered() -> None:
    outcome = Outcome(sent=0.0, ended=1.0, kind="200", good=True)

    assert faults.report("fault", [outcome], fault=0.5, left=[]).recovery_seconds is None


def test_memory_per_thousand() -> None:
    assert faults.per_thousand([0, 500, 1000], [100.0, 101.0, 102.0]) == 2.0


def test_request_on_the_wire() -> None:
    asked = Question(b"body", {"Gradcam-Targets": "7"})

    assert weak_clients.message("http://127.0.0.1:80/predictions/mine", asked) == (
        b"POST /predictions/mine HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Length: 4\r\nGradcam-Targets: 7\r\n\r\nbody"
    )
