"""The network: architecture, weights, labels and target layer."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from gradcam.errors import UnknownName, near_names

EFFICIENTNET_LITE0 = "efficientnet_lite0"


class NetworkError(ValueError):
    """An architecture, weights or labels that cannot be served; the message says what would be right."""


# ----------------------------------------------------------------------------- architecture


def architectures() -> list[str]:
    """Returns the names that `build` knows: torchvision's classifiers and EfficientNet-Lite0."""
    return sorted([*torchvision.models.list_models(module=torchvision.models), EFFICIENTNET_LITE0])


def build(architecture: str, num_classes: int) -> nn.Module:
    """Builds a network with fresh weights, ready for inference: eval mode, no parameter takes a gradient.

    Raises:
        NetworkError: no such architecture, or the package that holds it is not installed.
    """
    if architecture not in architectures():
        raise NetworkError(
            f"{architecture!r} is not an architecture{near_names(architecture, architectures())}; "
            "known are torchvision's classification networks and efficientnet_lite0"
        )
    if architecture == EFFICIENTNET_LITE0:
        network = _build_efficientnet_lite0(num_classes)
    else:
        network = torchvision.models.get_model(architecture, weights=None, num_classes=num_classes)
    return network.eval().requires_grad_(False)


def _build_efficientnet_lite0(num_classes: int) -> nn.Module:
    # Not torchvision's: it comes with the package whose weights are installed rather than downloaded.
    try:
        from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415
    except ImportError as error:
        raise NetworkError(
            f"{EFFICIENTNET_LITE0} needs the package efficientnet-lite-pytorch, which is not installed"
        ) from error
    network: nn.Module = EfficientNet.from_name("efficientnet-lite0", num_classes=num_classes)
    return network


# ----------------------------------------------------------------------------- weights


def load_weights(network: nn.Module, path: Path) -> None:
    """Loads a safetensors file into the network, every tensor of it and no other.

    Raises:
        NetworkError: names or shapes differ from the network's.
    """
    load_state_dict(network, load_file(path), source=path.name)


def load_state_dict(network: nn.Module, state_dict: Mapping[str, Tensor], source: str) -> None:
    """Loads a state dict, strictly; `source` names it in the error.

    Raises:
        NetworkError: names or shapes differ from the network's, or a number is NaN or infinite.
    """
    wanted = network.state_dict()
    differences = {
        "lacks": [name for name in wanted if name not in state_dict],
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
    network.load_state_dict(state_dict)


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# ----------------------------------------------------------------------------- target layer


def last_convolution(network: nn.Module) -> str:
    """Returns the name of the last `Conv2d` among the network's modules, in the order of registration.

    The target layer of the Grad-CAM tutorial; `layer4.1.conv2` in a ResNet-18.

    Raises:
        NetworkError: the network has no convolution.
    """
    names: list[str] = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    if not names:
        raise NetworkError("the network has no Conv2d; name the layer to explain (--layer)")
    return names[-1]


def check_layer(network: nn.Module, name: str) -> None:
    """Checks that the network has a module of that name.

    Raises:
        UnknownName: it has not; the message names near ones.
    """
    names = [known for known, _ in network.named_modules() if known]
    if name not in names:
        raise UnknownName(f"the network has no layer {name!r}{near_names(name, names)}", code="unknown_layer")


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
                f"the label {target!r} belongs to the classes {listed}: ask for one by its index",
                code="ambiguous_class",
            )
        if not indices:
            raise UnknownName(
                f"there is no class with the label {target!r}{near_names(target, self.names)}",
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
