"""What a request may ask for: every option's name, type and range."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from gradcam.errors import InvalidOption, suggestions, truncated_repr

Encoding = Literal["png", "jpeg"]


@dataclass(frozen=True)
class Options:
    """What a request asks for; a default says what is meant when the option is not given."""

    topk: int | None = None
    """How many classes to predict; None: the model's default."""
    targets: tuple[int | str, ...] | None = None
    """The classes to explain, by index or label; None: the `explain` most probable ones."""
    explain: int = 1
    method: str | None = None
    """None: the model's."""
    layer: tuple[str, ...] | None = None
    """One layer, or several whose maps are fused; None: the model's."""
    smooth: bool = False
    """Whether to average over flipped and scaled versions of the picture."""
    heatmap: Literal["grid", "none"] = "grid"
    overlay: Literal["png", "jpeg", "none"] = "none"
    colormap: str = "jet"
    alpha: float = 0.4
    """Share of the colour in the overlay, in [0, 1]."""


def read(given: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> Options:
    """Reads options, each bytes or text, or of the type that JSON has for it.

    Args:
        given: the options by name.
        defaults: further ones, which count where `given` says nothing else.

    Raises:
        InvalidOption: an option that does not exist, or a value that it cannot take.
    """
    given = merged(defaults or {}, given)
    for name in given:
        if name not in PARSERS:
            raise InvalidOption(
                f"{truncated_repr(name)} is not an option{suggestions(name, PARSERS)} (options are {', '.join(PARSERS)})"
            )
    if "targets" in given and "explain" in given:
        raise InvalidOption("'targets' and 'explain' exclude each other; give the classes or their number")
    return Options(**{name: PARSERS[name](name, _text(name, value)) for name, value in given.items()})


def merged(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options given, and the defaults that they neither replace nor exclude."""
    excluded = {MUTUALLY_EXCLUSIVE[name] for name in given if name in MUTUALLY_EXCLUSIVE}
    return {**{name: value for name, value in defaults.items() if name not in excluded}, **given}


def _text(name: str, value: Any) -> Any:
    """Returns bytes, as forms and gRPC have them, as text; anything else as it is."""
    if not isinstance(value, bytes | bytearray):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidOption(f"{name} must be UTF-8 text: {error.reason} at byte {error.start}") from error


def whole(value: Any) -> Any:
    """Returns a number without a fraction as a whole one: JSON knows no difference between 5 and 5.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _count(name: str, value: Any, minimum: int) -> int:
    number = whole(value)
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,9}\s*", value, re.ASCII):
        number = int(value)
    if not isinstance(number, int) or isinstance(number, bool) or number < minimum:
        raise InvalidOption(f"{name} must be a whole number from {minimum} on, not {truncated_repr(value)}")
    return number


def _topk(name: str, value: Any) -> int:
    return _count(name, value, minimum=1)


def _explain(name: str, value: Any) -> int:
    return _count(name, value, minimum=0)


def _targets(name: str, value: Any) -> tuple[int | str, ...]:
    """Reads a list, one class, or text in which commas part them and double quotes keep them together."""
    if isinstance(value, str):
        try:
            value = next(csv.reader([value], skipinitialspace=True), []) if "\n" not in value else [value]
        except csv.Error as error:
            raise InvalidOption(f"{name} must be indices or labels, parted by commas: {error}") from error
    entries = value if isinstance(value, list) else [value]
    targets = tuple(_target(name, entry) for entry in entries)
    if not targets:
        raise InvalidOption(f"{name} must name at least one class; leave it out for the predicted one")
    return targets


def _target(name: str, entry: Any) -> int | str:
    index = whole(entry)
    if isinstance(index, int) and not isinstance(index, bool):
        return index
    if not isinstance(entry, str) or not entry.strip():
        raise InvalidOption(f"{name} must be indices or labels, such as 281 or 'tabby', not {truncated_repr(entry)}")
    label = entry.strip()
    return int(label) if re.fullmatch(r"\d{1,9}", label, re.ASCII) else label


def _name(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidOption(f"{name} must be a name, not {truncated_repr(value)}")
    return value.strip()


def _layers(name: str, value: Any) -> tuple[str, ...]:
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list) or not entries:
        raise InvalidOption(f"{name} must be a layer's name or a list of them, not {truncated_repr(value)}")
    return tuple(_name(name, entry) for entry in entries)


def _flag(name: str, value: Any) -> bool:
    flags = {"true": True, "1": True, "false": False, "0": False}
    text = str(value).strip().lower()
    if not isinstance(value, str | bool | int) or text not in flags:
        raise InvalidOption(f"{name} must be true or false, not {truncated_repr(value)}")
    return flags[text]


def _alpha(name: str, value: Any) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= 1:
        raise InvalidOption(f"{name} must be a number from 0 to 1, not {truncated_repr(value)}")
    return number


def _choice(*choices: str) -> Callable[[str, Any], str]:
    def read(name: str, value: Any) -> str:
        if value not in choices:
            raise InvalidOption(f"{name} must be one of {', '.join(choices)}, not {truncated_repr(value)}")
        return cast(str, value)

    return read


PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "topk": _topk,
    "targets": _targets,
    "explain": _explain,
    "method": _name,
    "layer": _layers,
    "smooth": _flag,
    "heatmap": _choice("grid", "none"),
    "overlay": _choice("png", "jpeg", "none"),
    "colormap": _name,
    "alpha": _alpha,
}

# Either says which classes are explained.
MUTUALLY_EXCLUSIVE = {"targets": "explain", "explain": "targets"}
