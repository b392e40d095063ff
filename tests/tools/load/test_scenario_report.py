"""How the outcomes of a scenario are summarized."""

from __future__ import annotations

from tools.load.connection import NO_ANSWER
from tools.load.scenario_report import rate, summarize
from tools.load.traffic import Outcome


def test_summary() -> None:
    outcomes = [
        Outcome(sent=0.0, ended=1.0, kind="200", good=True),
        Outcome(sent=1.0, ended=4.0, kind="200", good=True),  # sent before the fault
        Outcome(sent=2.0, ended=2.5, kind="507 Internal", good=False, message="Worker died."),
        Outcome(sent=2.5, ended=9.0, kind=NO_ANSWER, good=False),
        Outcome(sent=3.0, ended=6.0, kind="200", good=True),
        Outcome(sent=4.0, ended=7.0, kind="400", good=False, wrong=True),
        Outcome(sent=5.0, ended=7.0, kind="422", good=True),
    ]

    report = summarize("fault", outcomes, fault=2.0, leaks=[], more=1)

    assert (report.sent, report.answered, report.rejected) == (7, 3, 1)
    assert report.errors == {"507 Internal": 1, NO_ANSWER: 1, "400": 1}
    assert report.messages == {"507 Internal": "Worker died."}
    assert (report.wrong, report.lost) == (1, 1)
    assert report.recovery_seconds == 4.0
    assert report.slowest_seconds == 3.0
    assert report.figures == {"more": 1}
    assert rate(outcomes, 0.5, 4.5) == 0.5


def test_never_recovered() -> None:
    outcome = Outcome(sent=0.0, ended=1.0, kind="200", good=True)

    assert summarize("fault", [outcome], fault=0.5, leaks=[]).recovery_seconds is None


def test_record_keeps_its_keys() -> None:
    assert list(summarize("fault", [], fault=0.5, leaks=[]).record()) == [
        "scenario",
        "sent",
        "answered",
        "refused",
        "errors",
        "messages",
        "wrong",
        "recovery_seconds",
        "slowest_seconds",
        "left",
        "figures",
    ]
