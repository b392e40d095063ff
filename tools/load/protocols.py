"""The ways into a model: the same question at each, and what was answered in one form.

picture, options → Door → Question → server → Door → Seen → wrong

gRPC is none of them: it has no status and takes another client.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from urllib3 import encode_multipart_formdata

from tools.client.answers import Prediction, parse_prediction
from tools.load.traffic import Question, close

Options = Mapping[str, str]
Region = tuple[int, int, int, int]

JSON = {"Content-Type": "application/json"}
EXPLAINED = 3

# Wide enough for half precision, in which the numbers of a picture depend on its batch; another picture's are further.
PROBABILITY_TOLERANCE = 0.02
HEATMAP_TOLERANCE = 0.05


class Malformed(Exception):
    """The answer has not the form that the door's answers have."""


# ----------------------------------------------------------------------------- questions


def as_bytes(picture: bytes, options: Options) -> Question:
    """Sends the file as it is, and options as headers."""
    headers = {f"Gradcam-{name.capitalize()}": value for name, value in options.items()}
    return Question(picture, {"Content-Type": "application/octet-stream", **headers})


def as_form(picture: bytes, options: Options) -> Question:
    """Sends the file and options as a multipart form."""
    body, content_type = encode_multipart_formdata({"data": ("picture", picture, "image/*"), **options})
    return Question(body, {"Content-Type": content_type})


def as_json(picture: bytes, options: Options) -> Question:
    """Sends an object with the picture and options."""
    return Question(json.dumps({"image": text(picture), **options}).encode(), JSON)


def as_instances(picture: bytes, options: Options) -> Question:
    """Sends one instance of KServe's V1."""
    return Question(json.dumps({"instances": [{"image": {"b64": text(picture)}, **options}]}).encode(), JSON)


def as_tensors(picture: bytes, options: Options) -> Question:
    """Sends the tensor of one picture of KServe's V2."""
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [text(picture)]}
    return Question(json.dumps({"inputs": [tensor], "parameters": options}).encode(), JSON)


def text(picture: bytes) -> str:
    """Returns the picture in base64."""
    return base64.b64encode(picture).decode("ascii")


# ----------------------------------------------------------------------------- answers


@dataclass(frozen=True)
class Explained:
    """What spoke for one class."""

    index: int
    evidence: bool
    heatmap: NDArray[np.float64]
    """(h, w)."""
    peak: tuple[int, int] | None
    overlay: bytes | None


@dataclass(frozen=True)
class Seen:
    """What a server says about one picture."""

    predictions: tuple[Prediction, ...]
    explained: tuple[Explained, ...]
    region: Region
    size: tuple[int, int] | None
    """None at V2's door, which does not say it."""


def of_document(document: Any) -> Seen:
    """Reads the answer of the doors that take one picture."""
    image = document["image"]
    return Seen(
        predictions=tuple(parse_prediction(entry) for entry in document["predictions"]),
        explained=tuple(
            Explained(
                index=int(entry["index"]),
                evidence=entry["evidence"] is True,
                heatmap=np.asarray(entry["heatmap"], float),
                peak=None if entry["peak"] is None else point(entry["peak"]),
                overlay=file_of(entry["overlay"]) if "overlay" in entry else None,
            )
            for entry in document["explanations"]
        ),
        region=region(image["region"]),
        size=point([image["width"], image["height"]]),
    )


def of_instances(document: Any) -> Seen:
    """Reads the answer of KServe's V1 to one instance."""
    (only,) = document["predictions"]
    return of_document(only)


def of_tensors(document: Any) -> Seen:
    """Reads the answer of KServe's V2 to one picture."""
    tensors = {tensor["name"]: np.reshape(tensor["data"], tensor["shape"])[0] for tensor in document["outputs"]}
    predicted = zip(tensors["index"], tensors["label"], tensors["probability"], strict=True)
    classes = tensors.get("target", np.empty(0, int))
    return Seen(
        predictions=tuple(
            Prediction(int(index), str(label), float(probability)) for index, label, probability in predicted
        ),
        explained=tuple(
            Explained(
                index=int(index),
                evidence=bool(tensors["evidence"][place]),
                heatmap=tensors["heatmap"][place],
                peak=point(tensors["peak"][place]) if tensors["evidence"][place] else None,
                overlay=file_of(str(tensors["overlay"][place])) if "overlay" in tensors else None,
            )
            for place, index in enumerate(classes)
        ),
        region=region(tensors["region"]),
        size=None,
    )


def point(numbers: Iterable[Any]) -> tuple[int, int]:
    """Returns two whole numbers."""
    x, y = map(int, numbers)
    return x, y


def region(numbers: Iterable[Any]) -> Region:
    """Returns left, top, right and bottom."""
    left, top, right, bottom = map(int, numbers)
    return left, top, right, bottom


def file_of(data_url: str) -> bytes:
    """Returns the bytes of a `data:` URL."""
    return base64.b64decode(data_url.partition(",")[2], validate=True)


# ----------------------------------------------------------------------------- doors


@dataclass(frozen=True)
class Door:
    """One way into a model.

    Attributes:
        ask: makes the question of a picture's bytes and options.
    """

    path_template: str
    ask: Callable[[bytes, Options], Question]
    reader: Callable[[Any], Seen]

    def path(self, model: str) -> str:
        """Returns the path of a model's address."""
        return self.path_template.format(model=quote(model, safe=""))

    def read(self, answer: bytes) -> Seen:
        """Reads the body of an answer.

        Raises:
            Malformed: it has another form.
        """
        try:
            return self.reader(json.loads(answer))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise Malformed(f"not the answer of a Grad-CAM model: {answer[:80].decode(errors='replace')}") from error


DOORS = {
    "raw": Door("/predictions/{model}", as_bytes, of_document),
    "form": Door("/predictions/{model}", as_form, of_document),
    "json": Door("/predictions/{model}", as_json, of_document),
    "v1": Door("/v1/models/{model}:predict", as_instances, of_instances),
    "v2": Door("/v2/models/{model}/infer", as_tensors, of_tensors),
}


# ----------------------------------------------------------------------------- right and wrong


@dataclass(frozen=True)
class Wanted:
    """What is asked about a picture, and which answer that has."""

    options: Options = field(default_factory=dict)
    classes: tuple[int, ...] | int = 1
    """The classes to explain, or how many of the most probable ones."""
    overlay: bool = False


def two_classes(known: Seen) -> Wanted:
    """Asks for the second and the first of the predicted classes."""
    classes = tuple(entry.index for entry in reversed(known.predictions[:2]))
    return Wanted({"targets": ",".join(map(str, classes))}, classes)


def most_probable(known: Seen) -> Wanted:
    """Asks for several of the most probable classes."""
    count = min(EXPLAINED, len(known.predictions))
    return Wanted({"explain": str(count)}, count)


OPTIONS: dict[str, Callable[[Seen], Wanted]] = {
    "default": lambda known: Wanted(),
    "targets": two_classes,
    "explain": most_probable,
    "overlay": lambda known: Wanted({"overlay": "jpeg"}, overlay=True),
    "none": lambda known: Wanted({"explain": "0"}, 0),
}


def wrong(seen: Seen, wanted: Wanted, known: Seen) -> str | None:
    """Returns what is wrong with an answer, or None.

    Args:
        seen: the answer.
        wanted: what was asked.
        known: what the server said about the picture when it had nothing else to do, with maps of `EXPLAINED` classes.
    """
    return next(flaws(seen, wanted, known), None)


def flaws(seen: Seen, wanted: Wanted, known: Seen) -> Iterator[str]:
    """Yields everything that is wrong with an answer."""
    if seen.region != known.region or (seen.size and known.size and seen.size != known.size):
        yield "another size or region"
    yield from flaws_of_classes(seen.predictions, known.predictions)
    predicted = tuple(entry.index for entry in seen.predictions)
    classes = predicted[: wanted.classes] if isinstance(wanted.classes, int) else wanted.classes
    if tuple(entry.index for entry in seen.explained) != classes:
        yield "other classes explained"
    maps = {entry.index: entry for entry in known.explained}
    shape = known.explained[0].heatmap.shape
    for entry in seen.explained:
        yield from flaws_of_map(entry, shape, known.region)
        if entry.index in maps and not same_map(entry, maps[entry.index]):
            yield "another map"
        if (entry.overlay is not None) != wanted.overlay or not is_drawn(entry, known):
            yield "no overlay of the picture" if wanted.overlay else "an overlay that nobody asked for"


def flaws_of_classes(seen: tuple[Prediction, ...], known: tuple[Prediction, ...]) -> Iterator[str]:
    """Yields what is wrong with the most probable classes; those that are equally probable may change places."""
    own, other = [entry.probability for entry in seen], [entry.probability for entry in known]
    if len(own) != len(other) or not close(own, other, PROBABILITY_TOLERANCE):
        yield "other probabilities"
    classes = {entry.index: entry for entry in known}
    for entry in seen:
        expected = classes.get(entry.index)
        if expected is not None and entry.label != expected.label:
            yield "another label"
        if abs(entry.probability - (expected or known[-1]).probability) > PROBABILITY_TOLERANCE:
            yield "other classes"


def flaws_of_map(entry: Explained, shape: tuple[int, ...], region: Region) -> Iterator[str]:
    """Yields what is wrong with a map by itself."""
    if entry.heatmap.shape != shape or not entry.heatmap.size:
        yield "another shape of the map"
    elif entry.heatmap.min() < 0 or entry.heatmap.max() != float(entry.evidence):
        yield "a map that is not from 0 to 1"
    left, top, right, bottom = region
    if (entry.peak is not None) != entry.evidence:
        yield "a peak without evidence, or none with it"
    elif entry.peak is not None and not (left <= entry.peak[0] < right and top <= entry.peak[1] < bottom):
        yield "a peak outside the region"


def same_map(seen: Explained, known: Explained) -> bool:
    """Tells whether two maps are the same, to rounding."""
    return seen.heatmap.shape == known.heatmap.shape and close(seen.heatmap, known.heatmap, HEATMAP_TOLERANCE)


def is_drawn(entry: Explained, known: Seen) -> bool:
    """Tells whether the overlay, where there is one, is a picture of the right size."""
    if entry.overlay is None:
        return True
    try:
        with Image.open(io.BytesIO(entry.overlay)) as drawn:
            return known.size in (None, drawn.size)
    except OSError:
        return False
