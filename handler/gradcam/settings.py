"""What `model-config.yaml` says about the model: the `gradcam:` block, checked key by key."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal

from gradcam.errors import suggestions

Transform = Literal["squash", "crop"]
Interpolation = Literal["bilinear", "bicubic"]
Decoding = Literal["exact", "fast"]
Engine = Literal["auto", "eager", "compile", "openvino"]
Precision = Literal["float32", "bfloat16", "float16"]


class SettingsError(ValueError):
    """A key or value of the `gradcam:` block that is not right; the message names it."""


@dataclass(frozen=True)
class Settings:
    """The `gradcam:` block of an archive's `model-config.yaml`.

    `build_mar.py` writes it and the handler reads it; nothing else configures the model.
    """

    architecture: str
    """A name that `network.build` knows, such as `resnet18`; any name where there is a `model_file`."""
    num_classes: int
    weights: str
    """Where the weights come from, for people to read."""
    weights_sha256: str
    """SHA-256 of the archive's weights file, in hexadecimal."""
    input_size: tuple[int, int]
    """Height and width of the network's input, in pixels."""
    mean: tuple[float, float, float]
    """Mean of each RGB channel, in [0, 1], subtracted from the input."""
    std: tuple[float, float, float]
    """Standard deviation of each RGB channel, by which the input is divided."""
    layer: str
    """The module whose output is explained."""
    model_file: str = ""
    """Python file in the archive that defines the network; none where `architecture` does."""
    transform: Transform = "squash"
    """`squash` resizes the whole picture to `input_size`; `crop` takes the centre of it."""
    resize_size: int = 256
    """Length of the shorter side before the centre is cropped, in pixels; `crop` only."""
    interpolation: Interpolation = "bilinear"
    """Of the resize; antialiased."""
    decoding: Decoding = "exact"
    """`exact` is Pillow's to the pixel; `fast` resizes with torch, and reads large JPEGs at a reduced scale."""
    method: str = "gradcam"
    """The method of a request that names none."""
    engine: Engine = "auto"
    """What runs the network in front of the target layer; `auto` takes OpenVINO where it is installed."""
    precision: Precision = "float32"
    """Of the network in front of the target layer ; what is behind it, and the maps, are float32."""
    max_image_bytes: int = 32 * 2**20
    max_image_pixels: int = 64_000_000
    max_decode_seconds: float = 10.0
    """What decoding one picture may take: some are made to take for ever."""
    max_instances: int = 32
    """The most pictures of one message, in KServe's formats."""
    max_targets: int = 100
    """The most classes that one message may have explained, over all of its pictures."""
    max_passes: int = 32
    """The most forward passes that one message may need: pictures × layers × smoothed versions."""
    max_overlay_pixels: int = 32_000_000
    """The most pixels of all the overlays of one message."""
    max_response_bytes: int = 64 * 2**20
    """The longest answer; TorchServe ends a worker that sends more than its `max_response_size`."""
    max_replay_bytes: int = 256 * 2**20
    """Memory for replaying the head; more pairs than fit are replayed in chunks."""
    max_batch_seconds: float = 40.0
    """What one batch may take; must end before TorchServe's `responseTimeout`, which ends the worker."""

    @classmethod
    def from_mapping(cls, block: Any) -> Settings:
        """Reads the parsed `gradcam:` block.

        Raises:
            SettingsError: a key is missing or unknown, or a value is of the wrong type or range.
        """
        if not isinstance(block, Mapping):
            raise SettingsError(f"model-config.yaml needs a block `gradcam:` of keys and values, not {block!r}")
        hints = typing.get_type_hints(cls)
        for key in block:
            if key not in hints:
                raise SettingsError(f"gradcam: {key!r} is not a setting{suggestions(str(key), hints)}")
        for field in fields(cls):
            if field.name not in block and field.default is MISSING:
                raise SettingsError(f"gradcam: {field.name!r} is missing")
        settings = cls(**{key: _convert(key, value, hints[key]) for key, value in block.items()})
        settings._check_ranges()
        return settings

    def to_mapping(self) -> dict[str, Any]:
        """Returns what `from_mapping` reads, in the types that YAML has."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def _check_ranges(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
                raise SettingsError(f"gradcam: {field.name!r} must be finite, not {value!r}")
            if field.name != "mean" and any(isinstance(number, int | float) and number <= 0 for number in numbers):
                raise SettingsError(f"gradcam: {field.name!r} must be greater than 0, not {value!r}")
        if self.transform == "crop" and self.resize_size < max(self.input_size):
            raise SettingsError(
                f"gradcam: 'resize_size' must be at least the larger side of 'input_size' "
                f"{self.input_size}, not {self.resize_size}"
            )


def _convert(key: str, value: Any, hint: Any) -> Any:
    """Returns `value` as the type that the field is annotated with; never guesses.

    Raises:
        SettingsError: the value is of another type.
    """
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise SettingsError(f"gradcam: {key!r} must be one of {', '.join(choices)}, not {value!r}")
        return value
    if typing.get_origin(hint) is tuple:
        kinds = typing.get_args(hint)
        if not isinstance(value, list | tuple) or len(value) != len(kinds):
            raise SettingsError(f"gradcam: {key!r} must be a list of {len(kinds)} numbers, not {value!r}")
        return tuple(_convert(key, item, kind) for item, kind in zip(value, kinds, strict=True))
    accepted: type | types.UnionType = int | float if hint is float else hint
    if not isinstance(value, accepted) or isinstance(value, bool):
        raise SettingsError(f"gradcam: {key!r} must be of type {hint.__name__}, not {value!r}")
    return hint(value)
