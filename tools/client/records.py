"""Results for other programs: JSON Lines, one object per image, and CSV, one row per class."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from tools.client.answers import Answer, Explanation, Prediction
from tools.client.errors import ImageError, ImageRejected
from tools.client.explained import Result

COLUMNS = (
    "path",
    "index",
    "label",
    "probability",
    "explained",
    "evidence",
    "strength",
    "peak_x",
    "peak_y",
    "method",
    "layer",
    "model",
    "version",
    "weights",
    "error",
    "message",
    "expected",
)


class JsonLines:
    """Writes one JSON object per image: the response without overlays, or the error."""

    def __init__(self, stream: TextIO) -> None:
        """Write to a stream."""
        self._stream = stream

    def add(self, result: Result) -> None:
        """Write an image's result."""
        entry: dict[str, Any] = {"path": str(result.image.path)}
        if isinstance(result.answer, ImageError):
            entry["error"] = error_members(result.answer)
        else:
            entry |= {**result.answer.document, "overlays": [str(path) for path in result.overlays]}
            if result.expected is not None:
                entry["expected"] = result.expected
        self._stream.write(json.dumps(entry) + "\n")


class CsvRows:
    """Writes one row for each class of an image: the most probable ones, then other explained ones."""

    def __init__(self, stream: TextIO) -> None:
        """Write the header to a stream."""
        self._writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        self._writer.writeheader()

    def add(self, result: Result) -> None:
        """Write an image's rows."""
        # A file's name may have bytes that are not valid Unicode.
        path = os.fsencode(result.image.path).decode("utf-8", "backslashreplace")
        if isinstance(result.answer, ImageError):
            error = error_members(result.answer)
            self._writer.writerow({"path": path, "error": error["code"], "message": error["message"]})
            return
        for row in class_rows(result.answer):
            self._writer.writerow({"path": path, **row, "expected": result.expected})


def class_rows(answer: Answer) -> Iterator[Mapping[str, Any]]:
    """Yield the columns of each class of an answer."""
    common: dict[str, Any] = {"method": answer.method, "layer": answer.layer}
    if answer.model is not None:
        common |= {"model": answer.model.name, "version": answer.model.version, "weights": answer.model.weights}
    for entry, explanation in answer.classes():
        yield {**class_columns(entry, explanation), **common}


def class_columns(entry: Prediction, explanation: Explanation | None) -> dict[str, Any]:
    """Return the columns of a class; those of its explanation only if there is one."""
    columns: dict[str, Any] = {
        "index": entry.index,
        "label": entry.label,
        "probability": entry.probability,
        "explained": int(explanation is not None),
    }
    if explanation is None:
        return columns
    x, y = explanation.peak or (None, None)
    return columns | {
        "evidence": int(explanation.peak is not None),
        "strength": explanation.strength,
        "peak_x": x,
        "peak_y": y,
    }


def error_members(error: ImageError) -> dict[str, str]:
    """Return an error's code and message; `no_answer` if it is not the handler's."""
    if isinstance(error, ImageRejected):
        return {"code": error.code, "message": error.message}
    return {"code": "no_answer", "message": str(error)}
