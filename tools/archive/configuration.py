"""The keys of `model-config.yaml`: TorchServe's and the model's settings, with types, defaults and meanings."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from gradcam.errors import suggestions
from gradcam.settings import MEASURED, Settings, SettingsError, convert
from tools.archive.packaging import FRONTEND

BLOCK = "gradcam"
# Settings that describe the network in the archive, which its files decide.
FIXED = (
    *("architecture", "num_classes", "weights", "weights_sha256", "model_file", "class_scores"),
    *("graph_sha256", "nncf", "calibration_images", "held_back_images", "images_sha256"),
    *MEASURED,
)
# Settings on which the figures of a calibrated precision depend.
MEASURED_WITH = ("layer", "precision", "input_size", "mean", "std", "transform", "resize_size", "interpolation")


@dataclass(frozen=True)
class Key:
    """A key of `model-config.yaml`."""

    name: str
    default: Any
    """As built; None if `build_mar.py` does not write it, or derives it from the network."""
    meaning: str
    block: str = BLOCK
    """`gradcam`, or empty for TorchServe's own keys at the top level."""
    kind: type = int
    """Of TorchServe's keys: int, str or list."""


def _torchserve(name: str, meaning: str, kind: type = int) -> Key:
    return Key(name, FRONTEND.get(name), meaning, "", kind)


TORCHSERVE = (
    _torchserve("minWorkers", "Minimum workers of this model; set `maxWorkers`, too. The server decides if not set."),
    _torchserve("maxWorkers", "Maximum workers of this model; set `minWorkers`, too."),
    _torchserve("batchSize", "Maximum requests per batch."),
    _torchserve("maxBatchDelay", "Milliseconds to wait for more requests of a batch."),
    _torchserve("responseTimeout", "Seconds before an unresponsive worker is replaced; above `max_batch_seconds`."),
    _torchserve("startupTimeout", "Seconds before a starting worker is replaced."),
    _torchserve("jobQueueSize", "Maximum waiting requests; TorchServe's default is 100."),
    _torchserve("maxRetryTimeoutInSec", "Seconds before TorchServe gives up workers that keep dying; 300 if not set."),
    _torchserve("clientTimeoutInMills", "Leave it unset: TorchServe drops later responses without a word."),
    _torchserve("deviceType", "`cpu` or `gpu`; a GPU if there is one, if not set.", str),
    _torchserve("deviceIds", "Numbers of the GPUs to use; all if not set.", list),
)


def keys() -> dict[str, Key]:
    """Return all keys by name, TorchServe's first."""
    meanings = _meanings()
    own = [
        Key(field.name, None if field.default is dataclasses.MISSING else field.default, meanings[field.name])
        for field in dataclasses.fields(Settings)
    ]
    return {key.name: key for key in (*TORCHSERVE, *own)}


def _meanings() -> dict[str, str]:
    """Return the docstring below each field of `Settings`, on one line."""
    (definition,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in zip(definition.body, definition.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def parse(assignments: Sequence[str]) -> dict[str, Any]:
    """Parse `KEY=VALUE` with values in YAML; a list may also be written without brackets, as `a,b`.

    Raises:
        SettingsError: an assignment is malformed, a value is of the wrong type, or the key cannot be set.
    """
    return dict(_parse(assignment) for assignment in assignments)


def _parse(assignment: str) -> tuple[str, Any]:
    name, separator, text = assignment.partition("=")
    name = name.strip().removeprefix(f"{BLOCK}.")
    if not separator:
        raise SettingsError(f"A setting must be KEY=VALUE, such as max_passes=8; got {assignment!r}")
    known = keys()
    if name not in known:
        raise SettingsError(f"Unknown setting {name!r}{suggestions(name, known)}")
    if name in FIXED:
        raise SettingsError(f"{name!r} describes the network in the archive and cannot be set")
    key, hint = known[name], typing.get_type_hints(Settings).get(name)
    is_list = key.kind is list or typing.get_origin(hint) is tuple
    try:
        value = yaml.safe_load(f"[{text}]" if is_list and not text.lstrip().startswith("[") else text)
    except yaml.YAMLError as error:
        raise SettingsError(f"The value of {name!r} must be YAML, got {text!r}") from error
    return name, convert(name, value, hint) if key.block else value


def configured(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a `model-config.yaml` with changes, as `parse` returns them.

    Raises:
        SettingsError: a value is of the wrong type or range, or does not fit another one.
    """
    known = keys()
    own = {name: value for name, value in changes.items() if known[name].block}
    frontend = {name: value for name, value in changes.items() if not known[name].block}
    for name, value in frontend.items():
        _check(known[name], value)
    result: dict[str, Any] = {**{key: value for key, value in config.items() if key != BLOCK}, **frontend}
    settings = Settings.from_mapping({**config[BLOCK], **own})
    if settings.held_back_images and (changed := [name for name in MEASURED_WITH if name in own]):
        raise SettingsError(
            f"{changed[0]!r} cannot be changed: the figures of {settings.precision} were measured with it; build again"
        )
    if ("minWorkers" in result) != ("maxWorkers" in result):
        raise SettingsError("'minWorkers' and 'maxWorkers' must both be set, or neither")
    if result.get("minWorkers", 0) > result.get("maxWorkers", 0):
        raise SettingsError(f"'minWorkers' must be at most 'maxWorkers', got {result['minWorkers']}")
    if settings.max_batch_seconds >= (timeout := result.get("responseTimeout", FRONTEND["responseTimeout"])):
        raise SettingsError(
            f"'max_batch_seconds' must be less than TorchServe's 'responseTimeout', {timeout} s, which kills the "
            f"worker; got {settings.max_batch_seconds:g}"
        )
    return {**result, BLOCK: settings.to_mapping()}


def _check(key: Key, value: Any) -> None:
    if not isinstance(value, key.kind) or isinstance(value, bool):
        raise SettingsError(f"{key.name!r} must be of type {key.kind.__name__}, got {value!r}")
    if isinstance(value, int) and value <= 0:
        raise SettingsError(f"{key.name!r} must be greater than 0, got {value!r}")
    if key.name == "deviceType" and value not in {"cpu", "gpu"}:
        raise SettingsError(f"'deviceType' must be cpu or gpu, got {value!r}")
    if isinstance(value, list) and not all(isinstance(number, int) and number >= 0 for number in value):
        raise SettingsError(f"'deviceIds' must be a list of GPUs' numbers, got {value!r}")


def document() -> str:
    """Return the tables of `docs/own-network.md`: every key with its default and meaning."""
    own = [key for key in keys().values() if key.block]
    return "\n".join(
        f"| {title} | default | meaning |\n|---|---|---|\n"
        + "".join(f"| `{key.name}` | {_documented(key)} | {key.meaning} |\n" for key in entries)
        for title, entries in (("setting under `gradcam:`", own), ("TorchServe's key", TORCHSERVE))
    )


def _documented(key: Key) -> str:
    if key.default is None:
        return "from the network" if key.block else "not set"
    values = key.default if isinstance(key.default, tuple) else (key.default,)
    return (
        ", ".join(f"`{value}`" if isinstance(value, str) else f"{value:,}" for value in values if value != "") or "none"
    )
