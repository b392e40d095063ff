"""Building an archive: a network with its weights, labels, settings, and the handler's code.

The archive runs wherever the dependencies are installed; it needs nothing of this repository.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from gradcam.engines import engine as engines
from gradcam.errors import UnknownName, unknown_message
from gradcam.explain import cam
from gradcam.explain.explainer import channel_passes
from gradcam.network import architecture as network
from gradcam.network.architecture import EFFICIENTNET_LITE0, TIMM, NetworkError
from gradcam.network.labels import Labels
from gradcam.network.logits import return_logits
from gradcam.network.target_layer import default_layer
from gradcam.network.weights import load_state_dict
from gradcam.pipeline import GRAPH_FILE, LABELS_FILE
from gradcam.settings import Activation, Decoding, Engine, Settings, Transform
from gradcam.split.parts import Split
from gradcam.split.splitter import split
from gradcam.split.verification import random_images
from tools.archive import configuration, logits, packaging, precision, preprocessing
from tools.archive import weights as weight_sources
from tools.archive.download import WeightsUnavailable
from tools.archive.packaging import CONFIG_FILE, FRONTEND, HANDLER_FILE, MODEL_FILE, WEIGHTS_FILE, Parts
from tools.archive.precision import PrecisionChoice, PrecisionOptions
from tools.archive.published import Preprocessing, published
from tools.archive.summary import Built, layer_reason
from tools.archive.weights import Weights
from tools.paths import HANDLER, MODEL_STORE

# Time limit of batches if the default method needs passes for each channel; below TorchServe's `responseTimeout`.
CHANNEL_METHOD_SECONDS = 40.0
# The code on which an archive's content depends, besides the handler.
BUILD_CODE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Build:
    """What an archive is built from; the fields are the command's options.

    Raises:
        NetworkError: the name does not fit a URL, the version is malformed, or mean or standard deviation is not in
            0 to 1.
    """

    arch: str
    weights: str = "default"
    model_file: Path | None = None
    labels: Path | None = None
    logits: str | None = None
    activation: Activation = "softmax"
    layer: str | None = None
    method: str = "gradcam"
    transform: Transform = "squash"
    decoding: Decoding | None = None
    """None: `exact` in float32, else `fast`, whose deviation is far below that of the precision."""
    engine: Engine = "auto"
    precision: PrecisionChoice = "float32"
    calibration: Path | None = None
    min_agreement: float = 0.95
    min_cosine: float = 0.95
    input_size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    name: str | None = None
    version: str = "1.0"
    output: Path = MODEL_STORE
    assignments: tuple[str, ...] = ()
    """`KEY=VALUE` of settings and TorchServe's keys, which have precedence over the other options."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d{1,9}(\.\d{1,9})*", self.version, re.ASCII):
            raise NetworkError(f"--version must be numbers separated by dots, such as 1.0; got {self.version!r}")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", self.model, re.ASCII):
            raise NetworkError(
                "--name must start with a letter or digit and contain only letters, digits, '_', '-', and '.'; "
                f"got {self.model!r}"
            )
        preprocessing.check_range("--mean", self.mean, 0)
        preprocessing.check_range("--std", self.std, preprocessing.SMALLEST_STD)

    @property
    def model(self) -> str:
        """The model's name in URLs."""
        return self.name or self.arch.removeprefix(TIMM)

    @property
    def archive(self) -> Path:
        """The archive's path."""
        return self.output / f"{self.model}.mar"


def build(options: Build) -> Path:
    """Build the archive atomically and return its path; raises the same errors as `build_and_describe`."""
    return build_and_describe(options).archive


def build_and_describe(options: Build) -> Built:
    """Build the archive atomically, and return what was chosen for it.

    Raises:
        NetworkError: architecture, weights and labels do not go together.
        UnknownName: there is no such layer or method.
        SplitError: the network cannot be explained at the layer.
        EngineError: the engine cannot run it.
        CalibrationError: the precision needs other images or options, or deviates too much from float32.
        ArchiverError: torch-model-archiver failed.
        SettingsError: an assignment is unknown or invalid.
    """
    fingerprint = _fingerprint(options)
    changes = configuration.parse(options.assignments)
    options = replace(options, **{key: value for key, value in changes.items() if key in vars(options)})
    precision_options = PrecisionOptions(
        options.precision, options.engine, options.calibration, options.min_agreement, options.min_cosine
    )
    precision.check(precision_options)
    if options.method not in cam.METHODS:
        raise UnknownName(unknown_message("method", options.method, cam.METHODS))
    if options.model_file is None:
        network.check_architecture(options.arch)
    own_labels = None if options.labels is None else Labels.read(options.labels)
    num_labels = None if own_labels is None else len(own_labels.names)
    prepared = _preprocessing(options)
    weights = weight_sources.load(options.arch, options.weights, num_labels, options.model_file)
    model = _model(options, weights)
    output = logits.run(model, prepared.input_size, options.model_file)
    found = logits.find(output, options.logits, options.activation, num_labels)
    model = return_logits(model, found.name, found.class_scores)
    labels, labels_source = _labels(own_labels, options, weights, found.num_classes)
    layer = options.layer or default_layer(model, prepared.input_size)
    parts = split(model, layer, prepared.input_size)
    # `auto` falls back to eager where it is served, and `compile` needs a GPU; others have to work here.
    if options.engine not in ("auto", "compile"):
        verified = options.precision if options.precision in ("bfloat16", "float16") else "float32"
        engines.accelerate(parts, options.engine, verified, random_images(model, prepared.input_size, 2))
    assumed = _assumed(options)
    if options.model_file is not None and assumed:
        print(preprocessing.warning(options.model_file, assumed, prepared), file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="gradcam-build-") as folder:
        contents = Path(folder) / "contents"
        packaging.copy_code(HANDLER, contents)
        if options.model_file is not None:
            shutil.copyfile(options.model_file, contents / MODEL_FILE)
        packaging.write_labels(contents / LABELS_FILE, labels.names)
        settings = Settings(
            architecture=options.arch,
            num_classes=found.num_classes,
            weights=weights.source,
            weights_sha256=packaging.write_weights(contents / WEIGHTS_FILE, model),
            layer=layer,
            model_file=MODEL_FILE if options.model_file else "",
            logits=found.name,
            class_scores=found.class_scores,
            activation=options.activation,
            transform=options.transform,
            method=options.method,
            decoding=options.decoding or ("exact" if options.precision == "float32" else "fast"),
            engine=options.engine,
            **vars(prepared),
            **_method_limits(options.method, parts),
        )
        changes.pop("precision", None)
        config = configuration.configured({**FRONTEND, "gradcam": settings.to_mapping()}, changes)
        settings = precision.decide(
            precision_options, parts, Settings.from_mapping(config["gradcam"]), contents / GRAPH_FILE
        )
        if options.decoding is None and settings.precision == "float32":  # chosen by `auto`
            settings = replace(settings, decoding="exact")
        config["gradcam"] = settings.to_mapping()
        packaging.write_config(contents / CONFIG_FILE, config)
        packed = packaging.run_archiver(
            Path(folder),
            options.model,
            Parts(contents / HANDLER_FILE, contents / WEIGHTS_FILE, contents / CONFIG_FILE, contents),
            options.version,
        )
        with zipfile.ZipFile(packed, "a") as archive:
            archive.comment = fingerprint
        return Built(
            archive=packaging.deliver(packed, options.archive),
            model=options.model,
            settings=settings,
            layer_reason=layer_reason(model.get_submodule(layer), options.layer),
            labels_source=labels_source,
            split=parts,
            assumed=assumed,
        )


def is_current(options: Build) -> bool:
    """Return whether the archive exists and was built from the same options, files and code."""
    try:
        with zipfile.ZipFile(options.archive) as archive:
            return archive.comment == _fingerprint(options)
    except (FileNotFoundError, zipfile.BadZipFile):
        return False


def build_if_needed(options: Build) -> Path:
    """Build the archive unless it is current."""
    return options.archive if is_current(options) else build(options)


def build_with_fallback(options: Build, warn: Callable[[str], None]) -> Path:
    """Build the archive if needed, or EfficientNet-Lite0's if published weights cannot be downloaded.

    Args:
        options: the archive to build.
        warn: called with a message before EfficientNet-Lite0 is built, whose weights are a package.
    """
    try:
        return build_if_needed(options)
    except WeightsUnavailable as error:
        warn(f"{error}\n\nContinuing with EfficientNet-Lite0, whose ImageNet weights are installed as a package.")
    return build_if_needed(Build(EFFICIENTNET_LITE0))


def _preprocessing(options: Build) -> Preprocessing:
    """Return the architecture's own preprocessing with the options' changes."""
    default = Preprocessing() if options.model_file else published(options.arch).preprocessing
    return preprocessing.chosen(default, options.input_size, options.mean, options.std)


def _assumed(options: Build) -> tuple[str, ...]:
    """Return the options of preprocessing that the user of a model file has not set."""
    given = {"--input-size": options.input_size, "--mean": options.mean, "--std": options.std}
    return tuple(name for name, value in given.items() if value is None and options.model_file is not None)


def _method_limits(method: str, parts: Split) -> dict[str, Any]:
    """Return settings that let a default method with passes for each channel explain an image."""
    if method not in cam.CHANNEL_METHODS:
        return {}
    return {
        "methods": (*Settings.methods, method),
        "max_passes": max(Settings.max_passes, 1 + channel_passes(parts, method)),
        "max_batch_seconds": CHANNEL_METHOD_SECONDS,
    }


def _model(options: Build, weights: Weights) -> nn.Module:
    num_classes = weight_sources.num_classes_of(options.arch, weights.state_dict, options.model_file)
    model = network.build(options.arch, num_classes, options.model_file)
    owner = f"--arch {options.arch}" if options.model_file is None else options.model_file.name
    load_state_dict(model, weights.state_dict, f"{weights.source}, for {owner},")
    if weights.removed_prefix:
        print(f"Removed the prefix {weights.removed_prefix!r} from all names in {weights.source}", file=sys.stderr)
    return model


def _labels(own_labels: Labels | None, options: Build, weights: Weights, num_classes: int) -> tuple[Labels, str]:
    """Return the labels, and where they come from."""
    if own_labels is not None and len(own_labels.names) != num_classes:
        raise NetworkError(
            f"--labels has {len(own_labels.names)} names, but {weights.source} has {num_classes} classes"
        )
    if own_labels is not None:
        return own_labels, f"from {options.labels}"
    if weights.labels is not None:
        return Labels(weights.labels), "as published"
    print(f"No --labels: the classes are called 'class 0' to 'class {num_classes - 1}'", file=sys.stderr)
    return Labels(tuple(f"class {index}" for index in range(num_classes))), "numbered"


def _fingerprint(options: Build) -> bytes:
    """Return a digest of all inputs, stored in the archive's zip comment to tell whether it is current."""
    files = sorted([*HANDLER.rglob("*.py"), *BUILD_CODE.glob("*.py")])
    inputs = (options.labels, options.model_file, Path(options.weights))
    files += [path for path in inputs if path is not None and path.is_file()]
    if options.calibration is not None:
        files += sorted(path for path in options.calibration.rglob("*") if path.is_file())
    digest = hashlib.sha256(repr(options).encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest().encode()
