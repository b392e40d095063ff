"""The result of a reliability scenario."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tools.load.connection import NO_ANSWER
from tools.load.traffic import Outcome, good_since

Figures = dict[str, float | int | str]

# Records keep the keys that earlier records have.
RECORD_KEYS = {"rejected": "refused", "leaks": "left"}


@dataclass(frozen=True)
class ScenarioReport:
    """What a scenario showed.

    Attributes:
        scenario: its name.
        sent: the number of requests.
        answered: how many got the baseline's answer.
        rejected: how many were invalid and got the baseline's error.
        errors: the number of all other requests, by status and kind.
        messages: TorchServe's messages, by kind of error.
        wrong: how many got another request's answer.
        recovery_seconds: from the fault until the next good answer to a request sent after it; None if there was none.
        slowest_seconds: the slowest good answer.
        leaks: what there is afterwards that was not there before.
        figures: what is specific to this scenario.
    """

    scenario: str
    sent: int
    answered: int
    rejected: int
    errors: dict[str, int]
    messages: dict[str, str]
    wrong: int
    recovery_seconds: float | None
    slowest_seconds: float
    leaks: list[str]
    figures: Figures = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """The number of requests without any answer or error."""
        return self.errors.get(NO_ANSWER, 0)

    def record(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {RECORD_KEYS.get(name, name): value for name, value in asdict(self).items()}


def summarize(
    scenario: str, outcomes: Sequence[Outcome], fault: float, leaks: list[str], **figures: float | int | str
) -> ScenarioReport:
    """Summarize how the requests ended; `fault` is a moment of the clock `time.monotonic`."""
    recovered = min((outcome.ended for outcome in good_since(outcomes, fault)), default=None)
    return ScenarioReport(
        scenario=scenario,
        sent=len(outcomes),
        answered=sum(outcome.good and outcome.kind == "200" for outcome in outcomes),
        rejected=sum(outcome.good and outcome.kind != "200" for outcome in outcomes),
        errors=dict(Counter(outcome.kind for outcome in outcomes if not outcome.good)),
        messages={outcome.kind: outcome.message for outcome in outcomes if outcome.message},
        wrong=sum(outcome.wrong for outcome in outcomes),
        recovery_seconds=None if recovered is None else round(recovered - fault, 2),
        slowest_seconds=round(max((o.ended - o.sent for o in outcomes if o.good), default=0.0), 2),
        leaks=leaks,
        figures=figures,
    )


def rate(outcomes: Sequence[Outcome], start: float, end: float) -> float:
    """Return good answers per second between two moments."""
    return round(sum(outcome.good and start < outcome.ended <= end for outcome in outcomes) / (end - start), 1)
