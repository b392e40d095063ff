"""The command `scripts/reproduce.py`: explain the images of a bundle again, and report what differs.

manifest → Client.explain → Difference → report
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.client.answers import Answer
from tools.client.arguments import add_header_argument, server_url
from tools.client.bundle import FORMAT
from tools.client.client import Client
from tools.client.compare import cosine
from tools.client.errors import ImageError, ServerUnavailable
from tools.client.table import printable

EQUAL, DIFFERENT, NOT_COMPARED = 0, 1, 2
TOLERANCE = 1e-5
# Options of the overlay, which is not compared.
DRAWING = frozenset({"overlay", "style", "caption", "colormap", "alpha"})


class BundleError(Exception):
    """Something of the bundle cannot be compared, for the reason in the message."""


@dataclass(frozen=True)
class Difference:
    """How far an image's answer is from that of the bundle."""

    probability: float
    """Maximum absolute difference of a class's probability."""
    heatmap: float
    """Maximum absolute difference of a map's value."""
    strength: float
    """Maximum difference of a strength, relative to the larger one."""
    cosine: float
    """Minimum cosine of two maps."""

    def within(self, tolerance: float) -> bool:
        """Return whether the answers are equal within a tolerance."""
        return max(self.probability, self.heatmap, self.strength) <= tolerance

    def __str__(self) -> str:
        return (
            f"probabilities differ by {self.probability:.1e}, maps by {self.heatmap:.1e}, strengths by "
            f"{self.strength:.1e}; cosine {self.cosine:.6f}"
        )


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest.

    Raises:
        BundleError: it is not a manifest of a format that this command knows.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"{path} is not a manifest of format {FORMAT}")
    return manifest


def read_image(folder: Path, entry: Mapping[str, Any]) -> bytes:
    """Read the image of an entry.

    Raises:
        BundleError: it does not exist, or its content is another one.
    """
    path = folder / str(entry["path"])
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"image cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise BundleError("image has changed: its SHA-256 is another one")
    return content


def difference(bundle: Path, entry: Mapping[str, Any], answer: Answer) -> Difference:
    """Compare an answer with that of the bundle.

    Raises:
        BundleError: other classes are predicted or explained, or a map has another size or cannot be read.
    """
    before, maps = entry["answer"], entry["maps"]
    explained, expected = [one.index for one in answer.explanations], [one["index"] for one in maps]
    if explained != expected:
        raise BundleError(f"explains the classes {explained}, in the bundle {expected}")
    pairs = [
        (read_map(bundle / one["file"]), np.asarray(explanation.heatmap, np.float32))
        for one, explanation in zip(maps, answer.explanations, strict=True)
    ]
    for old, new in pairs:
        if old.shape != new.shape:
            raise BundleError(f"maps have the shape {new.shape}, in the bundle {old.shape}")
    return Difference(
        probability=probability_difference(before, answer),
        heatmap=max((float(np.abs(old - new).max()) for old, new in pairs), default=0.0),
        strength=strength_difference(before, answer),
        cosine=min((cosine(old, new) for old, new in pairs), default=1.0),
    )


def read_map(path: Path) -> NDArray[np.float32]:
    """Read a map (h, w).

    Raises:
        BundleError: the file is not a map.
    """
    try:
        return np.asarray(np.load(path, allow_pickle=False), np.float32)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error


def probability_difference(before: Mapping[str, Any], answer: Answer) -> float:
    """Return the maximum difference of a probability; a class that is not listed is at most as probable as the last."""
    old: list[tuple[int, float]] = [(one["index"], one["probability"]) for one in before["predictions"]]
    new = [(one.index, one.probability) for one in answer.predictions]
    explained = zip(before["explanations"], answer.explanations, strict=True)
    differences: list[float] = [abs(one["probability"] - other.probability) for one, other in explained]
    return max(
        one_sided_difference(old, new),
        one_sided_difference(new, old),
        max(differences, default=0.0),
    )


def one_sided_difference(listed: Sequence[tuple[int, float]], other: Sequence[tuple[int, float]]) -> float:
    """Return the maximum difference of a listed class's probability from that in another list."""
    by_index: dict[int, float] = dict(other)
    last = min(by_index.values(), default=0.0)
    return max(
        (abs(value - by_index[index]) if index in by_index else max(value - last, 0.0) for index, value in listed),
        default=0.0,
    )


def strength_difference(before: Mapping[str, Any], answer: Answer) -> float:
    """Return the maximum relative difference of a strength; 0 if a server states none."""
    pairs = [
        (float(old["strength"]), new.strength)
        for old, new in zip(before["explanations"], answer.explanations, strict=True)
        if new.strength is not None and "strength" in old
    ]
    return max((abs(old - new) / max(old, new, 1e-9) for old, new in pairs), default=0.0)


def reproduce_image(
    client: Client, manifest: Mapping[str, Any], bundle: Path, entry: Mapping[str, Any]
) -> tuple[Difference, Answer]:
    """Explain an image of the bundle again.

    Raises:
        BundleError: the answers cannot be compared.
        ServerUnavailable: no server answers, or it does not serve the model.
    """
    if "error" in entry:
        raise BundleError(f"has no answer in the bundle: {entry['error']['message']}")
    content = read_image(Path(manifest["folder"]), entry)
    options = {name: value for name, value in manifest["options"].items() if name not in DRAWING}
    try:
        answer = client.explain(content, **options)
    except ImageError as error:
        raise BundleError(str(error)) from error
    return difference(bundle, entry, answer), answer


def identity(model: Mapping[str, Any] | None) -> str:
    """Return a model's name, version and weights as text."""
    return "unknown" if model is None else f"{model['name']} {model['version']}, weights {model['weights']}"


def reproduce(client: Client, manifest: Mapping[str, Any], bundle: Path, tolerance: float) -> int:
    """Explain all images of a bundle again, print what differs, and return the exit status.

    Raises:
        ServerUnavailable: no server answers, or it does not serve the model.
    """
    lines, models = [], {identity(manifest["model"])}
    different = missing = 0
    for entry in manifest["images"]:
        try:
            found, answer = reproduce_image(client, manifest, bundle, entry)
        except BundleError as error:
            missing += 1
            lines.append(f"{entry['path']}: cannot be compared: {error}")
            continue
        different += not found.within(tolerance)
        models.add(identity(answer.document.get("model")))
        lines.append(f"{entry['path']}: {'equal' if found.within(tolerance) else 'DIFFERENT'}: {found}")
    before = identity(manifest["model"])
    for other in sorted(models - {before}):
        print(f"Another model answers: {printable(other)}; in the bundle {printable(before)}")
    for line in lines:
        print(printable(line))
    equal = len(lines) - different - missing
    print(f"{equal} equal within {tolerance:g}, {different} different, {missing} cannot be compared")
    return DIFFERENT if different else NOT_COMPARED if missing or not lines else EQUAL


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Explain the images of a bundle (predict.py --bundle) again, and report what differs.",
        epilog="Exit status: 0 all equal, 1 some different, 2 some cannot be compared and none is different.",
    )
    parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="manifest.json of the bundle")
    parser.add_argument("--url", type=server_url, help="address of the server (default: that of the bundle)")
    parser.add_argument("--model", help="name of the model (default: that of the bundle)")
    parser.add_argument("--version", help="version of the model (default: that of the bundle)")
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, help="maximum difference that counts as equal (default: 1e-05)"
    )
    add_header_argument(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = argument_parser().parse_args(arguments)
    try:
        manifest = read_manifest(options.manifest)
        server = manifest["server"]
        with Client(
            options.url or server["url"],
            options.model or server["model"],
            version=options.version or server["version"],
            headers=dict(options.header),
        ) as client:
            return reproduce(client, manifest, options.manifest.parent, options.tolerance)
    except (BundleError, ServerUnavailable) as error:
        print(f"reproduce: {printable(str(error))}", file=sys.stderr)
        return NOT_COMPARED
