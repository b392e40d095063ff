"""Packs a network with its weights, labels and the handler into an archive that TorchServe serves.

The archive runs wherever the dependencies are installed; it needs nothing of this repository.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import typing
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save_file
from torch import nn

from gradcam.engines import engine as engines
from gradcam.engines.engine import EngineError
from gradcam.errors import UnknownName, unknown_message
from gradcam.explain import cam
from gradcam.network import architecture as network
from gradcam.network.architecture import TIMM, NetworkError
from gradcam.network.labels import Labels
from gradcam.network.target_layer import default_layer
from gradcam.network.weights import load_state_dict
from gradcam.pipeline import LABELS_FILE
from gradcam.settings import Decoding, Engine, Precision, Settings, SettingsError, Transform
from gradcam.split.parts import SplitError
from gradcam.split.splitter import split
from gradcam.split.verification import random_images
from tools.archive import weights as weight_sources
from tools.archive.weights import Preprocessing, Weights
from tools.paths import HANDLER as HANDLER_FOLDER
from tools.paths import MODEL_STORE

HANDLER = "gradcam_handler.py"
WEIGHTS_FILE = "weights.safetensors"
CONFIG_FILE = "model-config.yaml"
MODEL_FILE = "served_network.py"

# What TorchServe's frontend reads from model-config.yaml.
FRONTEND = {
    # Without minWorkers and maxWorkers: how many are right depends on the machine, and its server says it.
    "batchSize": 8,
    # Milliseconds to wait for a batch to fill. Under load it fills while the batch before it is at work; a lone
    # request should not wait. 0 would mean 100.
    "maxBatchDelay": 1,
    # Seconds.
    "responseTimeout": 60,
    "startupTimeout": 300,
}


@dataclass(frozen=True)
class Build:
    """What is to be packed; the fields are the command's options.

    Raises:
        NetworkError: the model's name does not fit a URL.
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
            raise NetworkError(f"--version {self.version!r}: a version is numbers with dots between them, as 1.0")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", self.model, re.ASCII):
            raise NetworkError(f"--name {self.model!r}: a model's name has only letters, digits and '_', '-', '.'")

    @property
    def model(self) -> str:
        """What the model is called in URLs."""
        return self.name or self.arch.removeprefix(TIMM)

    @property
    def archive(self) -> Path:
        """Where the archive goes."""
        return self.output / f"{self.model}.mar"


def build(options: Build) -> Path:
    """Builds the archive and returns its path; an archive is there whole or not at all.

    Raises:
        NetworkError: architecture, weights and labels do not go together.
        UnknownName: there is no such layer.
        SplitError: the network cannot be explained at the layer.
        EngineError: the engine cannot run it.
    """
    if options.method not in cam.METHODS:
        raise UnknownName(unknown_message("method", options.method, cam.METHODS))
    if options.model_file is None:
        network.check_architecture(options.arch)
    given = None if options.labels is None else Labels.read(options.labels)
    preprocessing = _preprocessing(options)
    loaded = weight_sources.load(
        options.arch, options.weights, None if given is None else len(given.names), options.model_file
    )
    model = _model(options, loaded)
    num_classes = network.count_classes(model, preprocessing.input_size)
    labels = _labels(given, loaded, num_classes)
    layer = options.layer or default_layer(model, preprocessing.input_size)
    parts = split(model, layer, preprocessing.input_size)
    with tempfile.TemporaryDirectory(prefix="gradcam-build-") as folder:
        contents = Path(folder) / "contents"
        shutil.copytree(HANDLER_FOLDER, contents, ignore=_not_code)
        if options.model_file is not None:
            shutil.copyfile(options.model_file, contents / MODEL_FILE)
        _write_labels(contents / LABELS_FILE, labels)
        settings = Settings(
            architecture=options.arch,
            num_classes=num_classes,
            weights=loaded.source,
            weights_sha256=_write_weights(contents / WEIGHTS_FILE, model),
            layer=layer,
            model_file=MODEL_FILE if options.model_file else "",
            transform=options.transform,
            method=options.method,
            decoding=options.decoding,
            engine=options.engine,
            precision=options.precision,
            **vars(preprocessing),
        )
        if options.engine != "auto":  # which falls back where it is served; what is named has to be there
            images = random_images(model, preprocessing.input_size, 2)
            engines.accelerate(parts, options.engine, options.precision, images)
        _write_config(contents / CONFIG_FILE, settings)
        packed = _pack(contents, options.model, options.version, Path(folder))
        with zipfile.ZipFile(packed, "a") as archive:
            archive.comment = _fingerprint(options)
        return _deliver(packed, options.archive)


def _not_code(folder: str, names: list[str]) -> list[str]:
    """Returns what stays out of the archive: caches, hidden files, an editor's backups."""
    return [
        name
        for name in names
        if name.startswith(".") or name == "__pycache__" or not (name.endswith(".py") or (Path(folder) / name).is_dir())
    ]


def _preprocessing(options: Build) -> Preprocessing:
    """Returns the architecture's own preprocessing, changed as the options say."""
    known = Preprocessing() if options.model_file else weight_sources.published(options.arch).preprocessing
    changes: dict[str, Any] = {key: value for key in ("mean", "std") if (value := getattr(options, key)) is not None}
    if options.input_size is not None:
        # The same share of the picture is cropped away as before.
        changes["resize_size"] = round(known.resize_size * options.input_size / min(known.input_size))
        changes["input_size"] = (options.input_size, options.input_size)
    return replace(known, **changes)


def _model(options: Build, loaded: Weights) -> nn.Module:
    num_classes = weight_sources.num_classes_of(options.arch, loaded.state_dict, options.model_file)
    model = network.build(options.arch, num_classes, options.model_file)
    load_state_dict(model, loaded.state_dict, f"{loaded.source}, for --arch {options.arch},")
    return model


def build_if_needed(options: Build) -> Path:
    """Builds the archive, unless it is there and was built from the same options, files and code."""
    try:
        with zipfile.ZipFile(options.archive) as archive:
            current = archive.comment == _fingerprint(options)
    except (FileNotFoundError, zipfile.BadZipFile):
        current = False
    return options.archive if current else build(options)


def _fingerprint(options: Build) -> bytes:
    """Returns what tells whether an archive is current; it stands in the archive's zip comment."""
    files = sorted([*(HANDLER_FOLDER).rglob("*.py"), Path(__file__), Path(weight_sources.__file__)])
    given = (options.labels, options.model_file, Path(options.weights))
    files += [path for path in given if path is not None and path.is_file()]
    digest = hashlib.sha256(repr(options).encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest().encode()


def _labels(given: Labels | None, loaded: Weights, num_classes: int) -> Labels:
    if given is not None and len(given.names) != num_classes:
        raise NetworkError(f"the labels name {len(given.names)} classes, but {loaded.source} has {num_classes}")
    if given is not None:
        return given
    if loaded.labels is not None:
        return Labels(loaded.labels)
    print(f"No --labels: the classes are called 'class 0' to 'class {num_classes - 1}'", file=sys.stderr)
    return Labels(tuple(f"class {index}" for index in range(num_classes)))


def _write_weights(path: Path, model: nn.Module) -> str:
    """Writes the weights and returns the file's SHA-256."""
    # Cloned, because safetensors refuses tensors that share memory.
    save_file({name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_labels(path: Path, labels: Labels) -> None:
    names = {str(index): name for index, name in enumerate(labels.names)}
    path.write_text(json.dumps(names, ensure_ascii=False, indent=1), encoding="utf-8")


def _write_config(path: Path, settings: Settings) -> None:
    config = {**FRONTEND, "gradcam": settings.to_mapping()}
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def _pack(contents: Path, name: str, version: str, folder: Path) -> Path:
    """Has torch-model-archiver make the archive inside `folder`."""
    # The archiver deletes what it finds at TMPDIR/<name>.
    staging = folder / "staging"
    staging.mkdir()
    command = {
        "--model-name": name,
        "--version": version,
        "--serialized-file": contents / WEIGHTS_FILE,
        "--handler": contents / HANDLER,
        "--config-file": contents / CONFIG_FILE,
        "--extra-files": contents,
        "--export-path": folder,
    }
    arguments = [str(part) for option in command.items() for part in option]
    done = subprocess.run(
        [sys.executable, "-m", "model_archiver.model_packaging", *arguments],
        env={**os.environ, "TMPDIR": str(staging)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise NetworkError(f"torch-model-archiver failed: {done.stderr.strip()}")
    return folder / f"{name}.mar"


def _deliver(packed: Path, archive: Path) -> Path:
    """Puts the archive in its place in one step, so that a server never sees half of it."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    partial = archive.with_name(f".{archive.name}.{os.getpid()}")
    try:
        shutil.copyfile(packed, partial)
        partial.replace(archive)
    finally:
        partial.unlink(missing_ok=True)
    return archive


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--arch",
        required=True,
        help="a torchvision classifier, efficientnet_lite0, timm:NAME, or any with --model-file",
    )
    parser.add_argument(
        "--model-file", type=Path, help="Python file with create_model(num_classes), or with one nn.Module class"
    )
    parser.add_argument(
        "--weights",
        default="default",
        help="default (as published), random (seeded), or a state dict or safetensors file",
    )
    parser.add_argument("--labels", type=Path, help="JSON list, index_to_name.json, or text with a name a line")
    parser.add_argument("--layer", help="the module to explain; the last convolution, or what sees more, if not given")
    parser.add_argument("--method", default="gradcam", choices=cam.METHODS)
    parser.add_argument(
        "--transform",
        default="squash",
        choices=typing.get_args(Transform),
        help="squash: the whole picture is resized; crop: the centre of it",
    )
    parser.add_argument(
        "--decoding",
        default="exact",
        choices=typing.get_args(Decoding),
        help="exact: as Pillow, to the pixel; fast: within a grey level of it, and large JPEGs at a reduced scale",
    )
    parser.add_argument(
        "--engine",
        default="auto",
        choices=typing.get_args(Engine),
        help="what runs the network in front of the layer; auto: OpenVINO where the worker has it, else eager torch",
    )
    parser.add_argument("--precision", default="float32", choices=typing.get_args(Precision))
    parser.add_argument("--input-size", type=_size, help="pixels a side; the architecture's if not given")
    parser.add_argument("--mean", type=_three_numbers, help="of R,G,B in 0 to 1; the architecture's if not given")
    parser.add_argument("--std", type=_three_numbers, help="of R,G,B in 0 to 1; the architecture's if not given")
    parser.add_argument("--name", help="of the model in URLs; the architecture's if not given")
    parser.add_argument(
        "--version", default="1.0", help="of the model, where a server has several (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=MODEL_STORE, help="folder for the archive")
    parser.add_argument(
        "--if-needed", action="store_true", help="keep an archive that was built from the same options, files and code"
    )
    return parser


def _size(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of pixels; write 224")
    return int(text)


def _three_numbers(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 3:
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers; write 0.485,0.456,0.406")
    return numbers


def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit code."""
    options = vars(_parser().parse_args(arguments))
    make = build_if_needed if options.pop("if_needed") else build
    try:
        archive = make(Build(**options))
    except (EngineError, NetworkError, SettingsError, SplitError, UnknownName) as error:
        print(f"build_mar: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"build_mar: the archive cannot be written: {error}", file=sys.stderr)
        return 1
    print(f"{archive} ({archive.stat().st_size / 1e6:.0f} MB)")
    return 0
