"""The network: architecture, weights, labels and target layer."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from gradcam.errors import UnknownName, suggestions, truncated_repr
from gradcam.network.layout import Layout

EFFICIENTNET_LITE0 = "efficientnet_lite0"
TIMM = "timm:"

# The published weights of these two expect another normalisation, which the network itself makes of ours. The
# auxiliary classifiers serve training only.
OPTIONS: dict[str, dict[str, bool]] = {
    "googlenet": {"transform_input": True, "aux_logits": False, "init_weights": False},
    "inception_v3": {"transform_input": True, "aux_logits": False, "init_weights": False},
}
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


class NetworkError(ValueError):
    """An architecture, weights or labels that cannot be served; the message says what would be right."""


# ----------------------------------------------------------------------------- architecture


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


# ----------------------------------------------------------------------------- weights


def load_weights(network: nn.Module, path: Path, sha256: str) -> None:
    """Loads an archive's weights file, every tensor of it and no other.

    Raises:
        NetworkError: the file is damaged, or names or shapes differ from the network's.
    """
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise NetworkError(f"{path.name} is damaged: its SHA-256 is not the one in model-config.yaml")
    load_state_dict(network, load_file(path), source=path.name)


def load_state_dict(network: nn.Module, state_dict: Mapping[str, Tensor], source: str) -> None:
    """Loads a state dict, strictly but for auxiliary classifiers; `source` names it in the error.

    Raises:
        NetworkError: names or shapes differ from the network's, or a number is NaN or infinite.
    """
    wanted = network.state_dict()
    state_dict = {
        name: tensor for name, tensor in state_dict.items() if name in wanted or not name.startswith(AUXILIARY)
    }
    differences = {
        # Checkpoints from before PyTorch 0.4.1 do not have the count, which inference does not use.
        "lacks": [name for name in wanted if name not in state_dict and not name.endswith("num_batches_tracked")],
        "has, but the network does not:": [name for name in state_dict if name not in wanted],
        "has in another shape:": [
            f"{name} {tuple(state_dict[name].shape)} instead of {tuple(wanted[name].shape)}"
            for name in wanted
            if name in state_dict and state_dict[name].shape != wanted[name].shape
        ],
        "has with numbers that are NaN or infinite:": [
            name for name, tensor in state_dict.items() if not torch.isfinite(tensor).all()
        ],
    }
    found = [f"it {verb} {_shortened(names)}" for verb, names in differences.items() if names]
    if found:
        raise NetworkError(f"{source} does not fit the network: {'; '.join(found)}")
    network.load_state_dict(state_dict, strict=False)


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


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


# ----------------------------------------------------------------------------- target layer


def default_layer(network: nn.Module, input_size: tuple[int, int]) -> str:
    """Returns the name of the layer that is explained where none is named.

    That is the last convolution, as in the Grad-CAM tutorial: `layer4.1.conv2` in a ResNet-18. The last one
    *executed*, with an output that is a grid of positions: squeeze-and-excitation blocks have convolutions on a
    single position.

    Where the classifier sees more than that convolution, the last layer with weights is taken that has it all: behind
    a concatenation of branches (DenseNet, Inception), and where attention follows (ViT, Swin, MaxViT).

    Raises:
        NetworkError: no layer has an output that is a grid of positions.
    """
    calls = _execute(network, input_size)
    attention = [call.name for call in calls if "Attention" in type(call.module).__name__]
    # What is inside of attention (queries, keys, values) is no image of the picture, though it has a place for each.
    grids = [
        call for call in calls if call.channels and not call.name.startswith(tuple(f"{name}." for name in attention))
    ]
    if not grids:
        raise NetworkError("no layer of the network has an output that lies on the picture; name one (--layer)")
    last = grids[-1]
    convolution = next((call for call in reversed(grids) if isinstance(call.module, nn.Conv2d)), None)
    if convolution is None or convolution.channels < last.channels:
        return last.name
    behind = {call.name for call in calls[calls.index(convolution) :]}
    return last.name if behind.intersection(attention) else convolution.name


@dataclass(frozen=True, eq=False)
class Call:
    """A module with weights that was executed on one image."""

    name: str
    module: nn.Module
    channels: int
    """Of an output that is a grid of positions through which the prediction is reached; 0 of any other."""


def _execute(network: nn.Module, input_size: tuple[int, int]) -> list[Call]:
    """Returns the modules with weights, in the order in which they ended on a random image.

    Of several that end with the very same output, as a container does with its last module, only the first counts.
    """
    ended: list[tuple[str, nn.Module, Any]] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, inputs, output: ended.append((name, module, output))

    hooks = [
        module.register_forward_hook(note(name))
        for name, module in network.named_modules()
        if name and any(True for _ in module.parameters())
    ]
    image = torch.randn(1, 3, *input_size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    try:
        with torch.enable_grad():
            logits = network(image)  # (1, K)
    finally:
        for hook in hooks:
            hook.remove()
    outputs = {id(output): output for _, _, output in ended}.values()
    tensors = [output for output in outputs if isinstance(output, Tensor) and output.requires_grad]
    gradients = torch.autograd.grad(logits.max(), tensors, allow_unused=True)
    reached = {id(t): gradient for t, gradient in zip(tensors, gradients, strict=True) if gradient is not None}
    return [
        Call(name, module, _channels(module, reached.pop(id(output), None), input_size))
        for name, module, output in ended
    ]


def _channels(module: nn.Module, gradient: Tensor | None, input_size: tuple[int, int]) -> int:
    layout = None if gradient is None else Layout.of(module, tuple(gradient.shape), input_size)
    if gradient is None or layout is None:
        return 0
    grid = layout.to_grid(gradient)  # (1, C, h, w)
    positions = grid.abs().sum(dim=1).count_nonzero()
    return grid.shape[1] if positions > 1 else 0


def check_layer(network: nn.Module, name: str) -> None:
    """Checks that the network has a module of that name.

    Raises:
        UnknownName: it has not; the message names near ones.
    """
    names = [known for known, _ in network.named_modules() if known]
    if name not in names:
        raise UnknownName(
            f"the network has no layer {truncated_repr(name)}{suggestions(name, names)}", code="unknown_layer"
        )


# ----------------------------------------------------------------------------- labels


@dataclass(frozen=True)
class Labels:
    """The names of the classes, by index."""

    names: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Labels:
        """Reads a labels file.

        JSON: a list of names, or TorchServe's `index_to_name.json`, an object from index to name or to
        `[wordnet id, name]`. Any other file: a name a line.

        Raises:
            NetworkError: the file cannot be read as one of these, or an index is missing.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
            names = _names_from_json(json.loads(text)) if path.suffix == ".json" else text.splitlines()
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise NetworkError(f"cannot read the labels file {path.name}: {error}") from error
        except NetworkError as error:
            raise NetworkError(f"labels file {path.name}: {error}") from error
        stripped = tuple(name.strip() for name in names)
        if not stripped or not all(stripped):
            raise NetworkError(f"labels file {path.name}: every class needs a name, none may be empty")
        return cls(stripped)

    def index(self, target: int | str) -> int:
        """Returns the index of a class that a request names by index or by label, in any case.

        Raises:
            UnknownName: there is no such class, or the label belongs to several.
        """
        if isinstance(target, int):
            if not 0 <= target < len(self.names):
                raise UnknownName(
                    f"there is no class {target}: indices go from 0 to {len(self.names) - 1}",
                    code="unknown_class",
                )
            return target
        indices = [i for i, name in enumerate(self.names) if name == target] or self._folded()[target.casefold()]
        if len(indices) > 1:
            listed = " and ".join(map(str, indices))
            raise UnknownName(
                f"the label {truncated_repr(target)} belongs to the classes {listed}: ask for one by its index",
                code="ambiguous_class",
            )
        if not indices:
            raise UnknownName(
                f"there is no class with the label {truncated_repr(target)}{suggestions(target, self.names)}",
                code="unknown_class",
            )
        return indices[0]

    def _folded(self) -> defaultdict[str, list[int]]:
        folded = defaultdict(list)
        for index, name in enumerate(self.names):
            folded[name.casefold()].append(index)
        return folded


def _names_from_json(document: object) -> Sequence[str]:
    if isinstance(document, dict):
        missing = [index for index in range(len(document)) if str(index) not in document]
        if missing:
            raise NetworkError(f"an object must have the keys 0 to {len(document) - 1}; {missing[0]} is missing")
        document = [document[str(index)] for index in range(len(document))]
    if not isinstance(document, list):
        raise NetworkError("must be a JSON list of names, or an object from index to name")
    names = [entry[-1] if isinstance(entry, list) and entry else entry for entry in document]
    if not all(isinstance(name, str) for name in names):
        raise NetworkError("every name must be a string")
    return names
