"""Settings of a model: the `gradcam:` block of `model-config.yaml`, checked key by key."""

from __future__ import annotations

import math
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, Literal

from gradcam.errors import suggestions, unknown_message
from gradcam.explain.cam import GRADIENT_METHODS, METHODS

Transform = Literal["squash", "crop"]
Interpolation = Literal["bilinear", "bicubic"]
Decoding = Literal["exact", "fast"]
Engine = Literal["auto", "eager", "compile", "openvino"]
Precision = Literal["float32", "bfloat16", "float16", "int8"]
Activation = Literal["softmax", "sigmoid"]
ClassScores = Literal["logits", "single_logit"]


MEASURED = ("agreement", "cosine_median", "cosine_5_percent", "cosine_worst")
MAY_BE_ZERO = ("mean", "explain", "calibration_images", "held_back_images", *MEASURED)


class SettingsError(ValueError):
    """A missing, unknown or invalid key of the `gradcam:` block; the message names it."""


@dataclass(frozen=True)
class Settings:
    """The `gradcam:` block of an archive's `model-config.yaml`.

    `build_mar.py` writes it and the handler reads it; nothing else configures the model.
    """

    architecture: str
    """An architecture of `network.architecture`, such as `resnet18`; any name if `model_file` is set."""
    num_classes: int
    """Number of classes, at least 1."""
    weights: str
    """Source of the weights, for human readers."""
    weights_sha256: str
    """SHA-256 of the archive's weights file, in hexadecimal."""
    input_size: tuple[int, int]
    """Height and width of the network's input, in pixels."""
    mean: tuple[float, float, float]
    """Mean of each RGB channel, in [0, 1], subtracted from the input."""
    std: tuple[float, float, float]
    """Standard deviation of each RGB channel; the input is divided by it."""
    layer: str
    """The module whose output is explained."""
    model_file: str = ""
    """Python file in the archive that defines the network; empty if `architecture` defines it."""
    logits: str = ""
    """Key or index of the network's output that holds the logits; empty if the network returns them alone."""
    class_scores: ClassScores = "logits"
    """`logits`: one for each class; `single_logit`: one logit z for two classes, as (-z/2, z/2)."""
    activation: Activation = "softmax"
    """Probabilities: `softmax` over all classes, or `sigmoid` for each class (multi-label)."""
    transform: Transform = "squash"
    """`squash` resizes the whole image to `input_size`; `crop` resizes it and takes its center."""
    resize_size: int = 256
    """Length of the shorter side before the center is cropped, in pixels; `crop` only."""
    interpolation: Interpolation = "bilinear"
    """Interpolation of the antialiased resize."""
    decoding: Decoding = "exact"
    """`exact` equals Pillow in every pixel; `fast` resizes with torch and reads large JPEGs at a reduced scale."""
    method: str = "gradcam"
    """Method of requests that name none; one of `methods`."""
    methods: tuple[str, ...] = tuple(GRADIENT_METHODS)
    """Methods that requests may use; as built without those that need passes for each channel of the layer."""
    explain: int = 1
    """Number of classes explained for requests that name neither classes nor a number; 0: none."""
    engine: Engine = "auto"
    """Engine of the network up to the target layer; `auto`: OpenVINO on CPUs if it runs the network, else `eager`."""
    precision: Precision = "float32"
    """Precision of the network up to the target layer; the rest and the maps are float32. `int8` needs calibration."""
    graph_sha256: str = ""
    """SHA-256 of the archive's quantized graph; empty unless `precision` is int8."""
    nncf: str = ""
    """Version of NNCF, which quantized the graph; empty unless `precision` is int8."""
    calibration_images: int = 0
    """Number of images that the graph was calibrated on; 0 unless `precision` is int8."""
    held_back_images: int = 0
    """Number of other images that the precision was compared with float32 on; 0: not compared."""
    images_sha256: str = ""
    """SHA-256 of the digests of all these images; empty if there are none."""
    agreement: float = 0.0
    """Share of the held-back images with the top class of float32."""
    cosine_median: float = 0.0
    """Median cosine of the held-back images' maps with those of float32."""
    cosine_5_percent: float = 0.0
    """5th percentile of these cosines."""
    cosine_worst: float = 0.0
    """Minimum of these cosines."""
    max_image_bytes: int = 32 * 2**20
    """Maximum size of an image file, in bytes."""
    max_image_pixels: int = 64_000_000
    """Maximum size of an image, in pixels."""
    max_decode_seconds: float = 10.0
    """Time limit for decoding one image; malicious images would take hours."""
    max_instances: int = 32
    """Maximum images per request, in KServe's protocols."""
    max_targets: int = 100
    """Maximum explained classes per request, summed over its images."""
    max_passes: int = 32
    """Maximum forward passes per request, with those that `scorecam` and `ablationcam` need for each channel."""
    max_overlay_pixels: int = 32_000_000
    """Maximum total overlay pixels per request."""
    max_response_bytes: int = 64 * 2**20
    """Maximum size of a response; TorchServe kills a worker that exceeds its `max_response_size`."""
    max_replay_bytes: int = 256 * 2**20
    """Memory for replaying the head; pairs that exceed it are replayed in chunks."""
    max_batch_seconds: float = 10.0
    """Time limit of one batch; must be below TorchServe's `responseTimeout`, which kills the worker."""
    max_delay_seconds: float = 1.0
    """Time for which `scorecam` and `ablationcam` may delay the other requests of their batch."""

    @property
    def num_logits(self) -> int:
        """Number of logits of the network itself."""
        return 1 if self.class_scores == "single_logit" else self.num_classes

    @classmethod
    def from_mapping(cls, block: Any) -> Settings:
        """Parse the `gradcam:` block, as YAML parsed it.

        Raises:
            SettingsError: a key is missing or unknown, or a value is of the wrong type or range.
        """
        if not isinstance(block, Mapping):
            raise SettingsError(f"model-config.yaml must have a block `gradcam:` of keys and values, got {block!r}")
        hints = typing.get_type_hints(cls)
        for key in block:
            if key not in hints:
                raise SettingsError(f"gradcam: unknown setting {key!r}{suggestions(str(key), hints)}")
        for field in fields(cls):
            if field.name not in block and field.default is MISSING:
                raise SettingsError(f"gradcam: {field.name!r} is missing")
        settings = cls(**{key: convert(key, value, hints[key]) for key, value in block.items()})
        settings._check_ranges()
        settings._check_methods()
        return settings

    def to_mapping(self) -> dict[str, Any]:
        """Return the mapping that `from_mapping` parses, in the types of YAML."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def without_client_limits(self) -> Settings:
        """Return the settings for a run whose only client is the model's owner: every method, as long as it takes."""
        return replace(self, methods=tuple(METHODS), max_passes=sys.maxsize, max_batch_seconds=math.inf)

    def _check_ranges(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
                raise SettingsError(f"gradcam: {field.name!r} must be finite, got {value!r}")
            if field.name == "explain" and not 0 <= value <= self.num_classes:
                raise SettingsError(f"gradcam: 'explain' must be between 0 and {self.num_classes}, got {value!r}")
            may_be_zero = field.name in MAY_BE_ZERO
            if not may_be_zero and any(isinstance(number, int | float) and number <= 0 for number in numbers):
                raise SettingsError(f"gradcam: {field.name!r} must be greater than 0, got {value!r}")
        if self.class_scores == "single_logit" and (self.num_classes, self.activation) != (2, "softmax"):
            raise SettingsError(
                "gradcam: 'class_scores' must be 'logits' unless 'num_classes' is 2 and 'activation' is softmax; "
                f"got {self.num_classes} and {self.activation}"
            )
        if self.transform == "crop" and self.resize_size < max(self.input_size):
            raise SettingsError(
                f"gradcam: 'resize_size' must be at least the larger side of 'input_size' "
                f"{self.input_size}, got {self.resize_size}"
            )

        if (self.precision == "int8") != bool(self.graph_sha256):
            raise SettingsError(
                "gradcam: 'precision' must be int8 if, and only if, the archive has a quantized graph, which "
                f"build_mar.py --precision int8 makes; got {self.precision!r}"
            )

    def _check_methods(self) -> None:
        for key, names in (("method", (self.method,)), ("methods", self.methods)):
            for name in names:
                if name not in METHODS:
                    raise SettingsError(f"gradcam: {key!r}: {unknown_message('method', name, METHODS)}")
        if self.method not in self.methods:
            raise SettingsError(
                f"gradcam: 'method' must be one of 'methods' ({', '.join(self.methods)}), got {self.method!r}"
            )


def convert(key: str, value: Any, hint: Any) -> Any:
    """Return `value` as the type that the field is annotated with.

    Raises:
        SettingsError: the value is of another type.
    """
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise SettingsError(f"gradcam: {key!r} must be one of {', '.join(choices)}; got {value!r}")
        return value
    if typing.get_origin(hint) is tuple:
        kinds = typing.get_args(hint)
        if kinds[-1] is Ellipsis:
            if not isinstance(value, list | tuple):
                raise SettingsError(f"gradcam: {key!r} must be a list, got {value!r}")
            return tuple(convert(key, item, kinds[0]) for item in value)
        if not isinstance(value, list | tuple) or len(value) != len(kinds):
            raise SettingsError(f"gradcam: {key!r} must be a list of {len(kinds)} numbers, got {value!r}")
        return tuple(convert(key, item, kind) for item, kind in zip(value, kinds, strict=True))
    accepted: type | types.UnionType = int | float if hint is float else hint
    if not isinstance(value, accepted) or isinstance(value, bool):
        raise SettingsError(f"gradcam: {key!r} must be of type {hint.__name__}, got {value!r}")
    return hint(value)
