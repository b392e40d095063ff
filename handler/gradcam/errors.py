"""Every error that a request can cause, and the modules that raise it.

    RequestError
    ├── InvalidRequest     400  No image, or a body of the wrong form            (protocols)
    ├── InvalidOption      400  Name, type or range of an option                 (admission, explain, options, results)
    ├── UndecodableImage   400  Not an image, or a truncated or corrupt one      (images)
    ├── TooLarge           413  More bytes or pixels than the settings allow     (admission, images, protocols)
    ├── UnsupportedImage   415  Image format or content encoding not decoded     (images, protocols)
    ├── UnknownName        422  A class, layer or method that the model lacks    (admission, layer_splits, network)
    ├── TooMany            422  More images, classes or passes than allowed      (admission, protocols, selection)
    ├── TooExpensive       422  No time left, or no turn  (batch_explainer, images, layer_splits, pipeline)
    └── NumericalOverflow  422  Overflow of the network's precision              (results)

A fault of the server is not a RequestError: it is raised unchanged, logged with its cause, and fails the whole batch.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Collection, Iterable, Sequence
from typing import ClassVar

MAX_COMPARED_CHARACTERS = 200
MAX_REPR_CHARACTERS = 60
MAX_SUGGESTIONS, MAX_PREFERRED = 3, 5
# Unlike `repr`, this stops at some depth: JSON may be nested as deep as Python's stack.
SHORT_REPR = reprlib.Repr()
SHORT_REPR.maxstring = SHORT_REPR.maxother = SHORT_REPR.maxlong = MAX_REPR_CHARACTERS


class RequestError(Exception):
    """A request that cannot be answered.

    The message states what was wrong, the value received, and what is valid.
    """

    status: ClassVar[int]
    phrase: ClassVar[str]
    code: str

    def __init__(self, message: str, code: str | None = None) -> None:
        """Store the client's message; `code` replaces the class's machine-readable code."""
        super().__init__(message)
        if code is not None:
            self.code = code


class InvalidRequest(RequestError):
    """A request without an image, or with JSON of the wrong form."""

    status = 400
    phrase = "Bad Request"
    code = "invalid_request"


class InvalidOption(RequestError):
    """An option that does not exist, or an invalid value of one."""

    status = 400
    phrase = "Bad Request"
    code = "invalid_option"


class UndecodableImage(RequestError):
    """Bytes that are not an image, or a truncated or corrupt image."""

    status = 400
    phrase = "Bad Request"
    code = "undecodable_image"


class TooLarge(RequestError):
    """More bytes or pixels than the model's settings allow."""

    status = 413
    phrase = "Payload Too Large"
    code = "image_too_large"


class UnsupportedImage(RequestError):
    """An image in a format that is not decoded."""

    status = 415
    phrase = "Unsupported Media Type"
    code = "unsupported_image"


class UnknownName(RequestError):
    """A class, layer or method that this model does not have."""

    status = 422
    phrase = "Unprocessable Entity"
    code = "unknown_name"


class TooMany(RequestError):
    """More images, classes or forward passes than the model's settings allow for one request."""

    status = 422
    phrase = "Unprocessable Entity"
    code = "too_many"


class TooExpensive(RequestError):
    """A result that takes longer than the model's settings allow."""

    status = 422
    phrase = "Unprocessable Entity"
    code = "too_expensive"


class NumericalOverflow(RequestError):
    """An image on which the network's numbers leave the range of its precision."""

    status = 422
    phrase = "Unprocessable Entity"
    code = "numerical_overflow"


def truncated_repr(value: object) -> str:
    """Return a client's value as an error message quotes it, at most 60 characters long."""
    text = SHORT_REPR.repr(value)
    return text if len(text) <= MAX_REPR_CHARACTERS else f"{text[: MAX_REPR_CHARACTERS - 1]}…"


def unknown_message(kind: str, name: str, valid: Collection[str]) -> str:
    """Return the error message for a name that is not among the valid ones."""
    near = suggestions(name, valid)
    return f"Unknown {kind} {truncated_repr(name)}{near or ';'} {'V' if near else 'v'}alid {kind}s: {', '.join(valid)}"


def suggestions(name: str, valid: Iterable[str], preferred: Sequence[str] = ()) -> str:
    """Return `"; did you mean 'x' or 'y'?"`, or an empty string if no name is similar.

    Args:
        name: the unknown name.
        valid: names, the most similar of which are suggested.
        preferred: names that are suggested before those, up to `MAX_PREFERRED`.
    """
    if len(name) > MAX_COMPARED_CHARACTERS:
        return ""  # comparing a megabyte with a thousand labels would take minutes
    by_folded = {candidate.casefold(): candidate for candidate in valid}
    similar = difflib.get_close_matches(name.casefold(), by_folded, n=MAX_SUGGESTIONS, cutoff=0.5)
    near = list(dict.fromkeys([*preferred[:MAX_PREFERRED], *(by_folded[folded] for folded in similar)]))
    shown = near[: max(MAX_SUGGESTIONS, len(preferred[:MAX_PREFERRED]))]
    return f"; did you mean {' or '.join(map(repr, shown))}?" if shown else ""
