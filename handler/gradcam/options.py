"""Options of a request: name, type and range of each, independent of the model."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from gradcam.errors import InvalidOption, truncated_repr, unknown_message

Encoding = Literal["png", "jpeg"]
Style = Literal["blend", "heatmap", "gray", "outline"]

# Share of the map's maximum at which the style `outline` draws its contour, unless the option `boxes` states one.
CONTOUR_SHARE = 0.5


class SplitTargets(tuple[int | str, ...]):
    """Targets from text with commas; all of the text may be the label of one class."""

    text: str

    @classmethod
    def of(cls, targets: Sequence[int | str], text: str) -> SplitTargets:
        """Return the targets that a text was split into."""
        split = cls(targets)
        split.text = text.strip()
        return split


@dataclass(frozen=True)
class Options:
    """The options of one image; each default applies where the request does not set the option."""

    topk: int | None = None
    """Number of classes to predict; None: the model's default."""
    targets: tuple[int | str, ...] | None = None
    """Classes to explain, by index or label; None: the `explain` most probable ones."""
    explain: int | None = None
    """Number of the most probable classes to explain; None: the model's setting, which admission fills in."""
    threshold: float | None = None
    """Explain every class of at least this probability, in [0, 1], instead of `explain` classes."""
    method: str | None = None
    """None: the model's."""
    layer: tuple[str, ...] | None = None
    """One layer, or several whose maps are fused; None: the model's."""
    versus: int | str | None = None
    """The class whose score is subtracted from the score of each explained class; None: none."""
    smooth: bool = False
    """Whether to average over flipped and scaled versions of the image."""
    heatmap: Literal["grid", "none"] = "grid"
    boxes: float | None = None
    """Share of the map's maximum, in (0, 1], that the map reaches inside the boxes; None: no boxes."""
    overlay: Literal["png", "jpeg", "none"] = "none"
    style: Style = "blend"
    colormap: str = "jet"
    alpha: float = 0.4
    """Share of the color in the overlay, in [0, 1]."""
    caption: bool = False
    """Whether a strip of text and legend is added below the overlay."""

    @property
    def explained_classes(self) -> int:
        """Number of classes to explain; for a threshold, which the network's output decides, 1."""
        if self.threshold is not None:
            return 1
        return (1 if self.explain is None else self.explain) if self.targets is None else len(self.targets)

    @property
    def contour_share(self) -> float:
        """Share of the map's maximum at which `outline` draws its contour."""
        return CONTOUR_SHARE if self.boxes is None else self.boxes


def read(options: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> Options:
    """Parse one mapping of options, and defaults that apply where it says nothing else.

    Raises:
        InvalidOption: as `parse`.
    """
    return parse([defaults or {}, options])


def parse(layers: Sequence[Mapping[str, Any]]) -> Options:
    """Merge and parse the options of one image.

    Args:
        layers: options by name, the most general mapping first: headers, then parameters of the request group, then
            fields of the image. A later mapping replaces values of an earlier one, and its `targets` also replaces an
            earlier `explain` or `threshold`, and so on. Values are bytes, text, or of the type that JSON has for them.

    Raises:
        InvalidOption: an option does not exist, or its value is invalid.
    """
    merged = merge(layers)
    for name in merged:
        if name not in PARSERS:
            raise InvalidOption(unknown_message("option", name, PARSERS))
    if len(exclusive := [name for name in MUTUALLY_EXCLUSIVE if name in merged]) > 1:
        raise InvalidOption(
            f"Options {' and '.join(map(repr, exclusive))} are mutually exclusive; send the classes, their number, or "
            "their least probability"
        )
    return Options(**{name: PARSERS[name](name, _text(name, value)) for name, value in merged.items()})


def merge(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the options that apply, from mappings with the most general first."""
    merged: dict[str, Any] = {}
    for layer in layers:
        replaced = set(MUTUALLY_EXCLUSIVE) if not layer.keys().isdisjoint(MUTUALLY_EXCLUSIVE) else set()
        merged = {**{name: value for name, value in merged.items() if name not in replaced}, **layer}
    return merged


def as_integer(value: Any) -> Any:
    """Return a float without a fraction as an integer, since JSON does not distinguish 5 from 5.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# ----------------------------------------------------------------------------- parsers


def _text(name: str, value: Any) -> Any:
    """Return bytes, as forms and gRPC send them, as text, and any other value unchanged."""
    if not isinstance(value, bytes | bytearray):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidOption(f"{name} must be UTF-8 text, got an {error.reason} at byte {error.start}") from error


def _count(name: str, value: Any, minimum: int) -> int:
    number = as_integer(value)
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,9}\s*", value, re.ASCII):
        number = int(value)
    if not isinstance(number, int) or isinstance(number, bool) or number < minimum:
        raise InvalidOption(f"{name} must be an integer of at least {minimum}, got {truncated_repr(value)}")
    return number


def _topk(name: str, value: Any) -> int:
    return _count(name, value, minimum=1)


def _explain(name: str, value: Any) -> int:
    return _count(name, value, minimum=0)


def _targets(name: str, value: Any) -> tuple[int | str, ...]:
    """Parse a list, one class, or comma-separated text; double quotes protect commas in labels."""
    text = value
    if isinstance(value, str):
        try:
            value = next(csv.reader([value], skipinitialspace=True), []) if "\n" not in value else [value]
        except csv.Error as error:
            raise InvalidOption(f"{name} must be comma-separated indices or labels: {error}") from error
    entries = value if isinstance(value, list) else [value]
    targets = tuple(_target(name, entry) for entry in entries)
    if not targets:
        raise InvalidOption(f"{name} must name at least one class; omit it to explain the predicted class")
    return SplitTargets.of(targets, text) if isinstance(text, str) and "," in text else targets


def _target(name: str, entry: Any) -> int | str:
    """Parse one class."""
    index = as_integer(entry)
    if isinstance(index, int) and not isinstance(index, bool):
        return index
    if not isinstance(entry, str) or not entry.strip():
        raise InvalidOption(f"{name} must be indices or labels, such as 281 or 'tabby', got {truncated_repr(entry)}")
    label = entry.strip()
    return int(label) if re.fullmatch(r"\d{1,9}", label, re.ASCII) else label


def _name(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidOption(f"{name} must be a name, got {truncated_repr(value)}")
    return value.strip()


def _layers(name: str, value: Any) -> tuple[str, ...]:
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list) or not entries:
        raise InvalidOption(f"{name} must be a layer name or a list of layer names, got {truncated_repr(value)}")
    return tuple(_name(name, entry) for entry in entries)


def _flag(name: str, value: Any) -> bool:
    flags = {"true": True, "1": True, "false": False, "0": False}
    text = str(value).strip().lower()
    if not isinstance(value, str | bool | int) or text not in flags:
        raise InvalidOption(f"{name} must be true or false, got {truncated_repr(value)}")
    return flags[text]


def _share(name: str, value: Any) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= 1:
        raise InvalidOption(f"{name} must be between 0 and 1, got {truncated_repr(value)}")
    return number


def _boxes(name: str, value: Any) -> float:
    share = _share(name, value)
    if share == 0:
        raise InvalidOption(f"{name} must be greater than 0 and at most 1, got {truncated_repr(value)}")
    return share


def _choice(*choices: str) -> Callable[[str, Any], str]:
    def parse_choice(name: str, value: Any) -> str:
        if value not in choices:
            raise InvalidOption(f"{name} must be one of {', '.join(choices)}; got {truncated_repr(value)}")
        return cast(str, value)

    return parse_choice


PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "topk": _topk,
    "targets": _targets,
    "explain": _explain,
    "threshold": _share,
    "method": _name,
    "layer": _layers,
    "versus": _target,
    "smooth": _flag,
    "heatmap": _choice("grid", "none"),
    "boxes": _boxes,
    "overlay": _choice("png", "jpeg", "none"),
    "style": _choice("blend", "heatmap", "gray", "outline"),
    "colormap": _name,
    "alpha": _share,
    "caption": _flag,
}

# Each of these options states which classes are explained.
MUTUALLY_EXCLUSIVE = ("targets", "explain", "threshold")
