"""Architectures: torchvision's, EfficientNet-Lite0, timm's, and networks in a Python file."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

import torch
import torchvision
from torch import Tensor, nn

from gradcam.errors import suggestions

EFFICIENTNET_LITE0 = "efficientnet_lite0"
TIMM = "timm:"

# The published weights of these two expect another normalisation, which the network itself makes of ours. The
# auxiliary classifiers serve training only.
OPTIONS: dict[str, dict[str, bool]] = {
    "googlenet": {"transform_input": True, "aux_logits": False, "init_weights": False},
    "inception_v3": {"transform_input": True, "aux_logits": False, "init_weights": False},
}


class NetworkError(ValueError):
    """An architecture, weights or labels that cannot be served; the message says what would be right."""


def architectures() -> list[str]:
    """Returns the names of torchvision's classifiers and EfficientNet-Lite0; `build` knows timm's names as well."""
    return sorted([*torchvision.models.list_models(module=torchvision.models), EFFICIENTNET_LITE0])


def build(architecture: str, num_classes: int, model_file: Path | None = None) -> nn.Module:
    """Builds a network with fresh weights, ready for inference: eval mode, no parameter takes a gradient.

    Args:
        architecture: one of `architectures()`, or `timm:` and a name of timm's; a name only, with a `model_file`.
        num_classes: of the classifier. A model file may have it fixed.
        model_file: Python file of a network of one's own; see `_build_from_file`.

    Raises:
        NetworkError: no such architecture, the package that holds it is not installed, or the file is not right.
    """
    if model_file is not None:
        network = _build_from_file(model_file, num_classes)
    elif architecture.startswith(TIMM):
        network = _build_from_timm(architecture.removeprefix(TIMM), num_classes)
    elif architecture == EFFICIENTNET_LITE0:
        network = _build_efficientnet_lite0(num_classes)
    else:
        check_architecture(architecture)
        options = OPTIONS.get(architecture, {})
        network = torchvision.models.get_model(architecture, weights=None, num_classes=num_classes, **options)
    return network.eval().requires_grad_(False)


def check_architecture(architecture: str) -> None:
    """Checks that `build` knows the name; of timm's names only that they are meant to be such.

    Raises:
        NetworkError: it does not; the message names near ones.
    """
    if architecture not in architectures() and not architecture.startswith(TIMM):
        raise NetworkError(
            f"{architecture!r} is not an architecture{suggestions(architecture, architectures())}; known are "
            "torchvision's classification networks, efficientnet_lite0, and timm's as timm:NAME"
        )


def _build_efficientnet_lite0(num_classes: int) -> nn.Module:
    # Not torchvision's: it comes with the package whose weights are installed rather than downloaded.
    package = _optional("efficientnet_lite_pytorch", "efficientnet-lite-pytorch")
    network: nn.Module = package.EfficientNet.from_name("efficientnet-lite0", num_classes=num_classes)
    return network


def _build_from_timm(name: str, num_classes: int) -> nn.Module:
    timm = _optional("timm", "timm")
    if not timm.is_model(name):
        raise NetworkError(f"timm has no model {name!r}{suggestions(name, timm.list_models())}")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes)
    return network


def _optional(module: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NetworkError(f"this architecture needs the package {package}, which is not installed") from error


def _build_from_file(path: Path, num_classes: int) -> nn.Module:
    """Builds the network of a Python file.

    The file has a function `create_model(num_classes)`, or exactly one class that is an `nn.Module`, made with
    `num_classes` if it takes that and with nothing otherwise.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise NetworkError(f"there is no Python file {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    factory = getattr(module, "create_model", None) or _only_network_class(module, path)
    takes_classes = "num_classes" in inspect.signature(factory).parameters
    network = factory(num_classes=num_classes) if takes_classes else factory()
    if not isinstance(network, nn.Module):
        raise NetworkError(f"create_model in {path.name} must return an nn.Module, not {type(network).__name__}")
    return network


def _only_network_class(module: ModuleType, path: Path) -> type[nn.Module]:
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module.__name__
    ]
    if len(own) != 1:
        raise NetworkError(
            f"{path.name} has {len(own)} nn.Module classes; it needs one, or a function create_model(num_classes)"
        )
    return own[0]


def count_classes(network: nn.Module, input_size: tuple[int, int]) -> int:
    """Returns how many logits the network gives for an image of that height and width.

    Raises:
        NetworkError: it does not run on such an image, or gives something else.
    """
    try:
        with torch.no_grad():
            logits = network(torch.zeros(1, 3, *input_size))  # (1, K)
    except Exception as error:  # whatever the network's own code makes of a size that it was not built for
        raise NetworkError(f"the network does not run on images of {input_size} pixels: {error}") from error
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        raise NetworkError("the network's output must be one tensor of logits (batch, classes)")
    return logits.shape[1]
