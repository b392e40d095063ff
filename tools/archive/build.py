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
from gradcam.network import architecture as network
from gradcam.network.architecture import EFFICIENTNET_LITE0, TIMM, NetworkError
from gradcam.network.labels import Labels
from gradcam.network.target_layer import default_layer
from gradcam.network.weights import load_state_dict
from gradcam.pipeline import LABELS_FILE
from gradcam.settings import Decoding, Engine, Precision, Settings, Transform
from gradcam.split.splitter import split
from gradcam.split.verification import random_images
from tools.archive import packaging
from tools.archive import weights as weight_sources
from tools.archive.download import WeightsUnavailable
from tools.archive.packaging import CONFIG_FILE, HANDLER_FILE, MODEL_FILE, WEIGHTS_FILE, Parts
from tools.archive.published import Preprocessing, published
from tools.archive.weights import Weights
from tools.paths import HANDLER, MODEL_STORE

# The code on which an archive's content depends, besides the handler.
BUILD_CODE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Build:
    """What an archive is built from; the fields are the command's options.

    Raises:
        NetworkError: the name does not fit a URL, or the version is malformed.
    """

    arch: str
    weights: str = "default"
    model_file: Path | None = None
    labels: Path | None = None
    layer: str | None = None
    method: str = "gradcam"
    transform: Transform = "squash"
    decoding: Decoding = "exact"
    engine: Engine = "auto"
    precision: Precision = "float32"
    input_size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    name: str | None = None
    version: str = "1.0"
    output: Path = MODEL_STORE

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d{1,9}(\.\d{1,9})*", self.version, re.ASCII):
            raise NetworkError(f"--version must be numbers separated by dots, such as 1.0; got {self.version!r}")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", self.model, re.ASCII):
            raise NetworkError(
                "--name must start with a letter or digit and contain only letters, digits, '_', '-', and '.'; "
                f"got {self.model!r}"
            )

    @property
    def model(self) -> str:
        """The model's name in URLs."""
        return self.name or self.arch.removeprefix(TIMM)

    @property
    def archive(self) -> Path:
        """The archive's path."""
        return self.output / f"{self.model}.mar"


def build(options: Build) -> Path:
    """Build the archive atomically and return its path.

    Raises:
        NetworkError: architecture, weights and labels do not go together.
        UnknownName: there is no such layer or method.
        SplitError: the network cannot be explained at the layer.
        EngineError: the engine cannot run it.
        ArchiverError: torch-model-archiver failed.
    """
    if options.method not in cam.METHODS:
        raise UnknownName(unknown_message("method", options.method, cam.METHODS))
    if options.model_file is None:
        network.check_architecture(options.arch)
    own_labels = None if options.labels is None else Labels.read(options.labels)
    preprocessing = _preprocessing(options)
    weights = weight_sources.load(
        options.arch, options.weights, None if own_labels is None else len(own_labels.names), options.model_file
    )
    model = _model(options, weights)
    num_classes = network.count_classes(model, preprocessing.input_size)
    labels = _labels(own_labels, weights, num_classes)
    layer = options.layer or default_layer(model, preprocessing.input_size)
    parts = split(model, layer, preprocessing.input_size)
    with tempfile.TemporaryDirectory(prefix="gradcam-build-") as folder:
        contents = Path(folder) / "contents"
        packaging.copy_code(HANDLER, contents)
        if options.model_file is not None:
            shutil.copyfile(options.model_file, contents / MODEL_FILE)
        packaging.write_labels(contents / LABELS_FILE, labels.names)
        settings = Settings(
            architecture=options.arch,
            num_classes=num_classes,
            weights=weights.source,
            weights_sha256=packaging.write_weights(contents / WEIGHTS_FILE, model),
            layer=layer,
            model_file=MODEL_FILE if options.model_file else "",
            transform=options.transform,
            method=options.method,
            decoding=options.decoding,
            engine=options.engine,
            precision=options.precision,
            **vars(preprocessing),
        )
        if options.engine != "auto":  # `auto` falls back to eager where it is served; others have to work here
            images = random_images(model, preprocessing.input_size, 2)
            engines.accelerate(parts, options.engine, options.precision, images)
        packaging.write_config(contents / CONFIG_FILE, settings)
        packed = packaging.run_archiver(
            Path(folder),
            options.model,
            Parts(contents / HANDLER_FILE, contents / WEIGHTS_FILE, contents / CONFIG_FILE, contents),
            options.version,
        )
        with zipfile.ZipFile(packed, "a") as archive:
            archive.comment = _fingerprint(options)
        return packaging.deliver(packed, options.archive)


def build_if_needed(options: Build) -> Path:
    """Build the archive unless it exists and was built from the same options, files and code."""
    try:
        with zipfile.ZipFile(options.archive) as archive:
            current = archive.comment == _fingerprint(options)
    except (FileNotFoundError, zipfile.BadZipFile):
        current = False
    return options.archive if current else build(options)


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
    changes: dict[str, Any] = {key: value for key in ("mean", "std") if (value := getattr(options, key)) is not None}
    if options.input_size is not None:
        # The crop keeps its share of the image.
        changes["resize_size"] = round(default.resize_size * options.input_size / min(default.input_size))
        changes["input_size"] = (options.input_size, options.input_size)
    return replace(default, **changes)


def _model(options: Build, weights: Weights) -> nn.Module:
    num_classes = weight_sources.num_classes_of(options.arch, weights.state_dict, options.model_file)
    model = network.build(options.arch, num_classes, options.model_file)
    load_state_dict(model, weights.state_dict, f"{weights.source}, for --arch {options.arch},")
    return model


def _labels(own_labels: Labels | None, weights: Weights, num_classes: int) -> Labels:
    if own_labels is not None and len(own_labels.names) != num_classes:
        raise NetworkError(
            f"--labels has {len(own_labels.names)} names, but {weights.source} has {num_classes} classes"
        )
    if own_labels is not None:
        return own_labels
    if weights.labels is not None:
        return Labels(weights.labels)
    print(f"No --labels: the classes are called 'class 0' to 'class {num_classes - 1}'", file=sys.stderr)
    return Labels(tuple(f"class {index}" for index in range(num_classes)))


def _fingerprint(options: Build) -> bytes:
    """Return a digest of all inputs, stored in the archive's zip comment to tell whether it is current."""
    files = sorted([*HANDLER.rglob("*.py"), *BUILD_CODE.glob("*.py")])
    inputs = (options.labels, options.model_file, Path(options.weights))
    files += [path for path in inputs if path is not None and path.is_file()]
    digest = hashlib.sha256(repr(options).encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest().encode()
