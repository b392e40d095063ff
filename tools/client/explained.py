"""Explanations of image files: requests to the server, and the overlays that are written."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tools.client.answers import Answer, Prediction
from tools.client.client import Client
from tools.client.endpoint import OptionValue
from tools.client.errors import ImageError, OptionRejected
from tools.client.expected import Expected, add_expected
from tools.client.files import ImageFile

# Several requests at once, so that the server can form batches.
IN_FLIGHT = 8
LABEL_CHARACTERS = 40
SUFFIXES = {"jpeg": "jpg", "png": "png"}


@dataclass(frozen=True)
class Result:
    """The result for one image."""

    image: ImageFile
    answer: Answer | ImageError
    """The answer, without overlays, or the error."""
    overlays: tuple[Path, ...] = ()
    sha256: str | None = None
    """Of the image file; None if it cannot be read."""
    expected: str | None = None
    """The class that the image should have; None if nobody has said so."""

    @property
    def agrees(self) -> bool:
        """Whether the predicted class is the expected one."""
        return isinstance(self.answer, Answer) and self.answer.predictions[0].label == self.expected


def explain_all(
    client: Client,
    images: Sequence[ImageFile],
    options: Mapping[str, OptionValue],
    output: Path,
    expected: Expected | None = None,
) -> Iterator[Result]:
    """Explain images concurrently, write their overlays, and yield results in the images' order.

    Args:
        client: of the model.
        images: the files.
        options: of the request for every image; without `overlay`, overlays are JPEG files.
        output: folder of the overlays.
        expected: classes of the images; where the network predicts another one, both are explained.

    Raises:
        ServerUnavailable: as in `Client.explain`; waiting images are dropped.
        OptionRejected: likewise.
    """
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        yield from pool.map(partial(explain_file, client, {"overlay": "jpeg", **options}, output, expected), images)


def explain_file(
    client: Client, options: Mapping[str, OptionValue], output: Path, expected: Expected | None, image: ImageFile
) -> Result:
    """Explain one image and write its overlays.

    Raises:
        ServerUnavailable, OptionRejected: every other image would fail as well.
    """
    digest = None
    try:
        try:
            content = image.path.read_bytes()
        except OSError as error:
            raise ImageError(f"cannot be read: {error.strerror}") from error
        digest = hashlib.sha256(content).hexdigest()
        answer = client.explain(content, **options)
        label = expected.of(image.path) if expected else None
        if label is not None:
            answer, label = add_expected(client, content, answer, label, options)
        overlays = save_overlays(answer, output, image.name, SUFFIXES.get(str(options["overlay"]), ""))
    except OptionRejected:
        raise
    except ImageError as error:
        return Result(image, error, sha256=digest)
    return Result(image, without_overlays(answer), tuple(overlays), digest, label)


def save_overlays(answer: Answer, output: Path, name: str, suffix: str) -> list[Path]:
    """Write an answer's overlays as `<name>.<index>-<label>.<suffix>`.

    Raises:
        ImageError: a file cannot be written.
    """
    written = []
    for explanation in answer.explanations:
        if explanation.overlay is None:
            continue
        path = output / f"{file_name(name, explanation)}.{suffix}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(explanation.overlay)
        except OSError as error:
            raise ImageError(f"overlay not written to {path}: {error.strerror}") from error
        written.append(path)
    return written


def file_name(name: str, entry: Prediction) -> str:
    """Return the name, without suffix, of a file about a class of an image."""
    return f"{name}.{entry.index}-{slug(entry.label)}"


def slug(label: str) -> str:
    """Return a label fit for a file name: letters and digits of any script, joined by hyphens."""
    return re.sub(r"\W+", "-", label.lower())[:LABEL_CHARACTERS].strip("-")


def without_overlays(answer: Answer) -> Answer:
    """Drop the overlays' bytes: those of a large folder would fill the memory before the table is printed."""
    return replace(answer, explanations=tuple(replace(entry, overlay=None) for entry in answer.explanations))


def without_maps(result: Result) -> Result:
    """Drop what the table does not need: maps of a large folder would fill the memory."""
    if isinstance(result.answer, ImageError):
        return result
    explanations = tuple(replace(entry, heatmap=None) for entry in result.answer.explanations)
    return replace(result, answer=replace(result.answer, explanations=explanations, document={}))
