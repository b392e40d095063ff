"""Comparison of two versions of a model: their classes, and their maps for the same class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from tools.client.answers import Answer
from tools.client.client import Client
from tools.client.endpoint import OptionValue
from tools.client.errors import ImageRejected
from tools.client.html_report import HtmlReport
from tools.client.table import printable

SHOWN = 20


@dataclass(frozen=True)
class Comparison:
    """The answers of both versions to one image."""

    image: Path
    old: str
    """The predicted class, or `error` and the error's code."""
    new: str
    cosine: float | None
    """Between the maps for the class that the old version predicts; None if one of them has no map."""
    answered: bool
    """Whether the new version answers if the old one does."""
    before: Answer | None = None
    """The old version's answer."""
    after: Answer | None = None
    """The new version's predictions, with its map for the class that the old one predicts."""


def compare(old: Client, new: Client, image: Path) -> Comparison:
    """Send one image to both versions.

    Raises:
        ClientError: a server does not answer, or does not serve the version.
        OSError: the image cannot be read.
    """
    content = image.read_bytes()
    before, after = answer(old, content), answer(new, content)
    old_class, new_class = predicted(before), predicted(after)
    if isinstance(before, ImageRejected):
        return Comparison(image, old_class, new_class, cosine=None, answered=True)
    same_class = after if new_class == old_class else answer(new, content, targets=[old_class])
    maps = heatmap(before), heatmap(same_class)
    return Comparison(
        image,
        old_class,
        new_class,
        cosine=None if maps[0] is None or maps[1] is None else cosine(maps[0], maps[1]),
        answered=isinstance(after, Answer),
        before=before,
        after=_with_map(after, same_class),
    )


def add_to_report(report: HtmlReport, comparison: Comparison) -> None:
    """Add an image with both versions' maps; one that a version rejects is added as not explained."""
    name = str(comparison.image)
    if comparison.before is None or comparison.after is None:
        report.add_error(name, f"old version: {comparison.old}, new version: {comparison.new}")
        return
    pair = {"other": comparison.after.document, "cosine": comparison.cosine}
    try:
        report.add(name, comparison.image, {**comparison.before.document, **pair})
    except OSError as error:
        report.add_error(name, f"compared, but no thumbnail could be made: {error}")


def without_maps(comparison: Comparison) -> Comparison:
    """Drop the answers: those of a large folder would fill the memory."""
    return replace(comparison, before=None, after=None)


def _with_map(after: Answer | ImageRejected, same_class: Answer | ImageRejected) -> Answer | None:
    """Return the new version's answer with the map for the old version's class, if it has that class."""
    if isinstance(after, ImageRejected):
        return None
    if isinstance(same_class, ImageRejected):
        return after
    explanations = same_class.document.get("explanations", [])
    return replace(after, document={**after.document, "explanations": explanations})


def answer(client: Client, image: bytes, **options: OptionValue) -> Answer | ImageRejected:
    """Return a version's answer, or its rejection of the image.

    Raises:
        ClientError: there is neither.
    """
    try:
        return client.explain(image, **options)
    except ImageRejected as error:
        return error


def predicted(entry: Answer | ImageRejected) -> str:
    """Return the most probable class, or `error` and the error's code."""
    return f"error {entry.code}" if isinstance(entry, ImageRejected) else entry.predictions[0].label


def heatmap(entry: Answer | ImageRejected) -> NDArray[np.float32] | None:
    """Return the map (h, w), or None: the new version may not have the class."""
    return None if isinstance(entry, ImageRejected) else np.asarray(entry.explanations[0].heatmap, np.float32)


def cosine(old: NDArray[np.float32], new: NDArray[np.float32]) -> float:
    """Return the cosine of two maps, the new one at the old one's size; two that are all 0 are the same."""
    if new.shape != old.shape:
        resized = Image.fromarray(new).resize((old.shape[1], old.shape[0]), Image.Resampling.BILINEAR)
        new = np.asarray(resized, np.float32)
    norms = float(np.linalg.norm(old)), float(np.linalg.norm(new))
    if 0 in norms:
        return float(norms[0] == norms[1])
    return float((old * new).sum()) / (norms[0] * norms[1])


def print_comparison(
    comparisons: Sequence[Comparison], min_agreement: float, min_cosine: float, console: Console
) -> bool:
    """Print what differs, and return whether the new version is close enough to the old one."""
    differing = [entry for entry in comparisons if entry.old != entry.new]
    if differing:
        table = Table("Image", "Old", "New", "Cosine of maps", title=f"{len(differing)} differ; the first {SHOWN}")
        for entry in differing[:SHOWN]:
            similarity = "" if entry.cosine is None else f"{entry.cosine:.3f}"
            table.add_row(*(printable(text) for text in (str(entry.image), entry.old, entry.new, similarity)))
        console.print(table)
    agreement = 1 - len(differing) / len(comparisons)
    cosines = [entry.cosine for entry in comparisons if entry.cosine is not None] or [0.0]
    unanswered = sum(not entry.answered for entry in comparisons)
    good = agreement >= min_agreement and float(np.mean(cosines)) >= min_cosine and not unanswered
    console.print(
        f"{len(comparisons)} images: same class {agreement:.1%} (required {min_agreement:.1%}), cosine of maps mean "
        f"{np.mean(cosines):.3f} (required {min_cosine:.3f}) minimum {min(cosines):.3f}, rejected by the new version "
        f"only {unanswered} (required 0): {'close enough' if good else 'NOT close enough'}",
        highlight=False,
        soft_wrap=True,
    )
    return good
