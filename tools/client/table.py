"""The table that `predict.py` prints."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tools.client.answers import Answer, Explanation, Prediction
from tools.client.errors import ImageError

BAR_CELLS = 10
SHOWN_BOXES = 3
# The map of an improbable class looks as strong as that of a probable one, so the table says which are improbable.
LOW_PROBABILITY = 0.05
# The method whose maps show evidence against a class.
AGAINST = "counterfactual"
# Pipes and files have no width of their own: wide enough not to break file names.
PIPE_COLUMNS = 160


def print_table(results: Sequence[tuple[Path, Answer | ImageError]]) -> None:
    """Print results on standard output, one section per image."""
    answers = [answer for _, answer in results if isinstance(answer, Answer)]
    columns = ["Image", "Class", "Probability", "Explanation"]
    if any(entry.strength is not None for answer in answers for entry in answer.explanations):
        columns.append("Strength")
    table = Table(*columns, caption=_caption(answers))
    for path, answer in results:
        for number, cells in enumerate(_rows(answer)):
            name = "" if number else printable(str(path))
            table.add_row(Text(name, overflow="fold"), *cells[: len(columns) - 1])
        table.add_section()
    Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(table)


def printable(text: str) -> str:
    """Replace characters that cannot be encoded or would control the terminal: the text may be anybody's."""
    spaced = (" " if character.isspace() else character for character in text)
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in spaced)


def _caption(answers: Sequence[Answer]) -> Text | None:
    """Return method and layer, which are the same for all images of a run."""
    for answer in answers:
        return Text(printable(f"Explained by {answer.method} at {answer.layer}"))
    return None


def _rows(answer: Answer | ImageError) -> Iterator[tuple[Text, ...]]:
    """Yield one row per class: the most probable classes, then other explained ones."""
    if isinstance(answer, ImageError):
        yield (Text(printable(str(answer)), style="red"),)
        return
    for entry, explanation in answer.classes():
        yield class_row(entry, explanation, answer.method)


def class_row(entry: Prediction, explanation: Explanation | None, method: str) -> tuple[Text, ...]:
    """Return the cells of a class; explained classes are bold, and those of low probability dim."""
    bold, dim = "bold" if explanation else "", "dim" if entry.probability < LOW_PROBABILITY else ""
    strength = "" if explanation is None or explanation.strength is None else f"{explanation.strength:.3g}"
    return (
        Text(printable(f"{entry.index} {entry.label}"), style=f"{bold} {dim}".strip()),
        Text(f"{entry.probability:7.2%} {'█' * round(BAR_CELLS * entry.probability)}", style=dim),
        Text(_finding(explanation, method) if explanation else "", style=dim),
        Text(strength, style=dim),
    )


def _finding(explanation: Explanation, method: str) -> str:
    """Say where the evidence is, and whether the class is improbable."""
    if explanation.peak is None:
        findings = ["nothing speaks against this class" if method == AGAINST else "no evidence for this class"]
    else:
        findings = ["peak at x={}, y={}".format(*explanation.peak)]
    if explanation.versus is not None:
        findings.append(printable(f"rather than {explanation.versus.label}"))
    if explanation.boxes:
        findings.append(f"boxes: {' '.join(str(list(box.rectangle)) for box in explanation.boxes[:SHOWN_BOXES])}")
    if explanation.probability < LOW_PROBABILITY:
        findings.append("low probability")
    return "; ".join(findings)
