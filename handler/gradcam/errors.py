"""Everything that may be wrong with a request.

    RequestError
    ├── InvalidRequest        400  no picture in it, or not the form it should have    (plain, kserve, wire)
    ├── InvalidOption         400  an option's name, type or range                     (options, pipeline)
    ├── UndecodableImage      400  not a picture, or a broken one                      (images)
    ├── TooLarge              413  more bytes or pixels than the model's settings say  (images, pipeline, wire)
    ├── UnsupportedImage      415  a picture, but of a kind that is not decoded        (images)
    ├── UnknownName           422  a class, layer or method the model does not have    (network, pipeline)
    ├── TooMany               422  more classes, layers or pictures than allowed       (kserve, pipeline)
    ├── TooExpensive          422  an answer that takes longer than allowed            (pipeline, explainer)
    └── NumericalOverflow     422  a picture too much for the network's precision      (pipeline)

A fault that is not the request's has no place here: it is raised as it is, logged with its cause
and fails the batch.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Collection, Iterable
from typing import ClassVar

LONGEST_NAME = 200
SHOWN_CHARACTERS = 60
# Unlike `repr`, it stops at some depth: JSON may be nested as deep as Python's stack.
QUOTE = reprlib.Repr()
QUOTE.maxstring = QUOTE.maxother = QUOTE.maxlong = SHOWN_CHARACTERS


class RequestError(Exception):
    """A request that cannot be answered; the message says what is wrong and what would be right."""

    status: ClassVar[int]
    phrase: ClassVar[str]
    code: str

    def __init__(self, message: str, code: str | None = None) -> None:
        """Keeps the message for the client; `code` replaces the class's machine-readable code."""
        super().__init__(message)
        if code is not None:
            self.code = code


class InvalidRequest(RequestError):
    """The request holds no picture, or its JSON has the wrong form."""

    status = 400
    phrase = "Bad Request"
    code = "invalid_request"


class InvalidOption(RequestError):
    """An option that does not exist, or a value that it cannot take."""

    status = 400
    phrase = "Bad Request"
    code = "invalid_option"


class UndecodableImage(RequestError):
    """Bytes that are not a picture, or a truncated or corrupt one."""

    status = 400
    phrase = "Bad Request"
    code = "undecodable_image"


class TooLarge(RequestError):
    """More bytes or pixels than the model's settings allow."""

    status = 413
    phrase = "Payload Too Large"
    code = "image_too_large"


class UnsupportedImage(RequestError):
    """A picture of a kind that is not decoded."""

    status = 415
    phrase = "Unsupported Media Type"
    code = "unsupported_image"


class UnknownName(RequestError):
    """A class, layer or method that this model does not have."""

    status = 422
    phrase = "Unprocessable Entity"
    code = "unknown_name"


class TooMany(RequestError):
    """More classes, layers or pictures in one message than the model's settings allow."""

    status = 422
    phrase = "Unprocessable Entity"
    code = "too_many"


class TooExpensive(RequestError):
    """An answer that takes longer than the model's settings allow."""

    status = 422
    phrase = "Unprocessable Entity"
    code = "too_expensive"


class NumericalOverflow(RequestError):
    """A picture on which the network's numbers leave the range of its precision."""

    status = 422
    phrase = "Unprocessable Entity"
    code = "numerical_overflow"


def truncated_repr(value: object) -> str:
    """Returns a client's value as an error message quotes it: recognisable, but never long."""
    text = QUOTE.repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


def unknown_message(kind: str, name: str, known: Collection[str]) -> str:
    """Returns the message for a name that is none of the known ones."""
    return f"there is no {kind} {truncated_repr(name)}{suggestions(name, known)} ({kind}s are {', '.join(known)})"


def suggestions(name: str, known: Iterable[str]) -> str:
    """Returns `"; did you mean 'x' or 'y'?"` for the known names nearest to `name`, or nothing."""
    if len(name) > LONGEST_NAME:
        return ""  # to compare a megabyte with a thousand labels would take minutes
    by_folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(by_folded[folded]) for folded in near)}?" if near else ""
