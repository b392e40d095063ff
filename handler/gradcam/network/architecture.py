"""Networks by name (torchvision, EfficientNet-Lite0, timm), or from a Python file."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import traceback
from pathlib import Path
from types import ModuleType

import torch
import torchvision
from torch import nn

from gradcam.errors import suggestions

EFFICIENTNET_LITE0 = "efficientnet_lite0"
TIMM = "timm:"

# These two have published weights that expect another normalization; `transform_input` converts from ImageNet's. The
# auxiliary classifiers are for training only.
OPTIONS: dict[str, dict[str, bool]] = {
    "googlenet": {"transform_input": True, "aux_logits": False, "init_weights": False},
    "inception_v3": {"transform_input": True, "aux_logits": False, "init_weights": False},
}


class NetworkError(ValueError):
    """An architecture, weights, or labels that cannot be served; the message says what is valid."""


def architectures() -> list[str]:
    """Return the names of torchvision's classifiers and EfficientNet-Lite0; `build` accepts timm's as well."""
    return sorted([*torchvision.models.list_models(module=torchvision.models), EFFICIENTNET_LITE0])


def build(architecture: str, num_classes: int, model_file: Path | None = None) -> nn.Module:
    """Build a network with random weights for inference: in eval mode, without gradients for parameters.

    Args:
        architecture: one of `architectures()`, or `timm:` followed by a model name of timm. With a `model_file`,
            any name.
        num_classes: number of classes of the classifier; a model file may ignore it.
        model_file: Python file with a function `create_model(num_classes)`, or with exactly one `nn.Module` class,
            which is constructed with `num_classes` if its constructor has that parameter.

    Raises:
        NetworkError: the architecture is unknown, its package is not installed, or the file is invalid.
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
    """Check that `build` accepts the name; of a name of timm, only its prefix.

    Raises:
        NetworkError: the name is unknown; the message suggests similar ones.
    """
    if architecture not in architectures() and not architecture.startswith(TIMM):
        raise NetworkError(
            f"Unknown architecture {architecture!r}{suggestions(architecture, architectures()) or ';'} valid are "
            "torchvision's classifiers, efficientnet_lite0, and timm:NAME"
        )


def _build_efficientnet_lite0(num_classes: int) -> nn.Module:
    # From the package that also contains the weights, so that they are installed rather than downloaded.
    package = _import_optional("efficientnet_lite_pytorch", "efficientnet-lite-pytorch")
    network: nn.Module = package.EfficientNet.from_name("efficientnet-lite0", num_classes=num_classes)
    return network


def _build_from_timm(name: str, num_classes: int) -> nn.Module:
    timm = _import_optional("timm", "timm")
    if not timm.is_model(name):
        raise NetworkError(f"Unknown timm model {name!r}{suggestions(name, timm.list_models())}")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes)
    return network


def _import_optional(module: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NetworkError(f"This architecture needs the package {package}: pip install {package}") from error


def _build_from_file(path: Path, num_classes: int) -> nn.Module:
    """Build the network that a Python file defines; see `build`."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise NetworkError(f"Model file must be an existing Python file, got {path}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        factory = getattr(module, "create_model", None) or _only_network_class(module, path)
        takes_classes = "num_classes" in inspect.signature(factory).parameters
        network = factory(num_classes=num_classes) if takes_classes else factory()
    except NetworkError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise NetworkError(f"Model file failed: {described(error, path)}") from error
    if isinstance(network, torch.jit.ScriptModule):
        raise NetworkError(
            f"{path.name} must return the PyTorch network itself, got TorchScript, which hides the modules that a map "
            "needs"
        )
    if not isinstance(network, nn.Module):
        raise NetworkError(f"create_model in {path.name} must return an nn.Module, got {type(network).__name__}")
    return network


def described(error: BaseException, path: Path | None) -> str:
    """Return an error of the user's code with its kind, and with the line of the model file that it passed last."""
    message = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}"
    if path is None:
        return message
    if isinstance(error, ModuleNotFoundError):
        message += "; an archive has only this file, so it may import installed packages only"
    file = str(path.absolute())  # as importlib names it
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if isinstance(error, SyntaxError):
        lines.append(error.lineno)
    return f"{path.name}, line {lines[-1]}: {message}" if lines else f"{path.name}: {message}"


def _only_network_class(module: ModuleType, path: Path) -> type[nn.Module]:
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise NetworkError(
            f"{path.name} must define a function create_model(num_classes) or exactly one nn.Module class, "
            f"got {len(classes)} classes"
        )
    return classes[0]
