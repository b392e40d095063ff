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
# Pipes and files have no width of their own: wide enough not to break file names.
PIPE_COLUMNS = 160


def print_table(results: Sequence[tuple[Path, Answer | ImageError]]) -> None:
    """Print results on standard output, one section per image."""
    table = Table("Image", "Class", "Probability", "Explanation", caption=_caption([answer for _, answer in results]))
    for path, answer in results:
        for number, cells in enumerate(_rows(answer)):
            name = "" if number else printable(str(path))
            table.add_row(Text(name, overflow="fold"), *cells)
        table.add_section()
    Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(table)


def printable(text: str) -> str:
    """Replace characters that cannot be encoded or would control the terminal: the text may be anybody's."""
    spaced = (" " if character.isspace() else character for character in text)
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in spaced)


def _caption(answers: Sequence[Answer | ImageError]) -> Text | None:
    """Return method and layer, which are the same for all images of a run."""
    for answer in answers:
        if isinstance(answer, Answer):
            return Text(printable(f"Explained by {answer.method} at {answer.layer}"))
    return None


def _rows(answer: Answer | ImageError) -> Iterator[tuple[Text, ...]]:
    """Yield one row per class: the most probable classes, then other explained ones."""
    if isinstance(answer, ImageError):
        yield (Text(printable(str(answer)), style="red"),)
        return
    explanations = {entry.index: entry for entry in answer.explanations}
    predicted = {entry.index for entry in answer.predictions}
    others = [entry for entry in answer.explanations if entry.index not in predicted]
    for entry in (*answer.predictions, *others):
        yield _class_row(entry, explanations.get(entry.index))


def _class_row(entry: Prediction, explanation: Explanation | None) -> tuple[Text, Text, Text]:
    """Return the cells of a class; explained classes are bold."""
    return (
        Text(printable(f"{entry.index} {entry.label}"), style="bold" if explanation else ""),
        Text(f"{entry.probability:7.2%} {'█' * round(BAR_CELLS * entry.probability)}"),
        Text(_finding(explanation) if explanation else ""),
    )


def _finding(explanation: Explanation) -> str:
    if explanation.peak is None:
        return "no evidence for this class"
    x, y = explanation.peak
    return f"peak at x={x}, y={y}"
