"""How a request's end is classified."""

from __future__ import annotations

import json

from tests.support.answers import DOCUMENT
from tools.load.checking import RecordedAnswer
from tools.load.connection import NO_ANSWER, Exchange
from tools.load.traffic import judge

RECORDED = RecordedAnswer(200, json.dumps(DOCUMENT))
REJECTED = '{"error":{"code":"invalid_option","message":"no 7"}}'


def exchange(status: int, text: str) -> Exchange:
    return Exchange(0.0, 1.0, status, text.encode())


def test_outcome_of_a_response() -> None:
    right = judge(exchange(200, RECORDED.text), RECORDED)
    other = judge(exchange(400, REJECTED), RECORDED)
    died = judge(exchange(507, '{"code": 507, "type": "Internal", "message": "Worker died."}'), RECORDED)
    garbled = judge(exchange(502, "<html>"), RECORDED)

    assert (right.kind, right.good, right.wrong) == ("200", True, False)
    assert (other.kind, other.good, other.wrong) == ("400", False, True)
    assert (died.kind, died.good, died.wrong, died.message) == ("507 Internal", False, False, "Worker died.")
    assert (garbled.kind, garbled.good, garbled.wrong) == ("502 without JSON", False, False)


def test_outcome_without_a_response() -> None:
    outcome = judge(Exchange(2.0, 3.0, failure=NO_ANSWER), RECORDED)

    assert (outcome.sent, outcome.ended, outcome.kind) == (2.0, 3.0, NO_ANSWER)
    assert (outcome.good, outcome.wrong) == (False, False)
