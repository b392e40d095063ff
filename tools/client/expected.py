"""Expected classes: which class each image should have, from a CSV file, and the map for it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tools.client.answers import Answer
from tools.client.client import Client
from tools.client.endpoint import OptionValue
from tools.client.errors import ImageError, OptionRejected

HEADER = ["file", "label"]
# Options that choose classes, and that draw; the map for the expected class is requested without them.
OTHER_OPTIONS = frozenset({"explain", "threshold", "targets", "overlay"})


class ExpectedError(ValueError):
    """A CSV file that cannot be used; the message names the line."""


@dataclass(frozen=True)
class Expected:
    """Classes by the path of the image as the CSV file names it."""

    labels: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Expected:
        """Read a CSV file with the columns `file` and `label`; the header is optional.

        Raises:
            OSError: the file cannot be read.
            ExpectedError: a line is malformed, or two lines contradict each other.
        """
        labels: dict[str, str] = {}
        with path.open(newline="", encoding="utf-8-sig") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if not row or (number == 1 and [cell.strip().lower() for cell in row] == HEADER):
                    continue
                cells = [cell.strip() for cell in row]
                if len(cells) != len(HEADER) or not all(cells):
                    raise ExpectedError(f"{path}, line {number}: must be a file and a label, got {','.join(row)!r}")
                name, label = cells
                if labels.setdefault(name, label) != label:
                    raise ExpectedError(
                        f"{path}, line {number}: {name!r} has the labels {labels[name]!r} and {label!r}"
                    )
        return cls(labels)

    def of(self, image: Path) -> str | None:
        """Return the class of an image; None: the file does not name it.

        A name of the file stands for every image whose path ends with it; the longest one counts.
        """
        parts = image.parts
        names = ("/".join(parts[start:]) for start in range(len(parts)))
        return next((self.labels[name] for name in (str(image), *names) if name in self.labels), None)


def add_expected(
    client: Client, image: bytes, answer: Answer, label: str, options: Mapping[str, OptionValue]
) -> tuple[Answer, str]:
    """Return the answer with the map for an expected class, and the model's name of that class.

    No further request is sent if the class is predicted or explained already.

    Raises:
        ImageError: the model has no such class.
        ServerUnavailable: the server does not answer.
    """
    for entry in (answer.predictions[0], *answer.explanations):
        if label in {entry.label, str(entry.index)}:
            return answer, entry.label
    kept = {name: value for name, value in options.items() if name not in OTHER_OPTIONS}
    try:
        extra = client.explain(image, **kept, targets=label if label.isdecimal() else f'"{label}"')
    except OptionRejected as error:
        raise ImageError(f"expected class {label!r}: {error}") from error
    known = {entry.index for entry in answer.explanations}
    (found,) = extra.explanations
    if found.index in known or found.index == answer.predictions[0].index:
        return answer, found.label
    document = dict(answer.document)
    document["explanations"] = [*answer.document["explanations"], *extra.document["explanations"]]
    return replace(answer, explanations=(*answer.explanations, found), document=document), found.label
