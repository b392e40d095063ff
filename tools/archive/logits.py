"""Search for the logits in a network's output, when its archive is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gradcam.network.architecture import NetworkError, described
from gradcam.settings import Activation, ClassScores

OUT_OF_SCOPE = "only image classification is supported, not regression, detection, or segmentation (docs/limits.md)"


@dataclass(frozen=True)
class Logits:
    """Where a network's output holds the logits, and which classes they mean."""

    name: str
    """Key or index of the output; empty if the network returns a tensor."""
    class_scores: ClassScores
    num_classes: int


def run(network: nn.Module, input_size: tuple[int, int], model_file: Path | None = None) -> Any:
    """Return what a network returns for one black image.

    Args:
        network: in eval mode.
        input_size: height and width of the image, in pixels.
        model_file: of the user's own network, for the line of an error in it.

    Raises:
        NetworkError: the network fails.
    """
    try:
        with torch.no_grad():
            return network(torch.zeros(1, 3, *input_size))
    except Exception as error:  # a network may raise anything on a size that it was not built for
        height, width = input_size
        raise NetworkError(
            f"The network cannot process images of {height} × {width} pixels (--input-size): "
            f"{described(error, model_file)}"
        ) from error


def find(output: Any, requested: str | None, activation: Activation, num_labels: int | None) -> Logits:
    """Find the logits in what a network returns for one image.

    Args:
        output: of any type.
        requested: name or index of the part with the logits; None: the only one of shape (batch, classes).
        activation: `softmax` makes two classes of a single logit.
        num_labels: number of the user's labels, which decides between several parts of that shape.

    Raises:
        NetworkError: it is not clear which part holds logits, or none does.
    """
    outputs = _outputs(output)
    name = _only_matrix(outputs, num_labels) if requested is None else _named(outputs, requested)
    logits = outputs[name]
    if not isinstance(logits, Tensor) or not _is_logits(logits):
        raise NetworkError(
            f"The network's output must be logits of shape (batch, classes), got {_shape(logits)} for one image: "
            f"{OUT_OF_SCOPE}"
        )
    if logits.numel() != 1 or (activation == "sigmoid" and logits.dim() == 2):
        return Logits(name, "logits", logits.numel())
    if num_labels != 2 or activation == "sigmoid":
        raise NetworkError(
            f"The network returns a single number for an image, of shape {tuple(logits.shape)}. If that is the logit "
            "of a binary classifier, pass --labels with two names, the negative class first, and no --activation; "
            "for one independent label, return (batch, 1) and pass --activation sigmoid with one name. "
            f"Got {num_labels or 'no'} labels. Regression is not supported (docs/limits.md)"
        )
    return Logits(name, "single_logit", 2)


def _outputs(output: Any) -> dict[str, Any]:
    """Return the parts of an output by name or index; a tensor under the empty name."""
    if isinstance(output, Mapping):
        return {str(key): value for key, value in output.items() if value is not None}
    if isinstance(output, tuple | list):
        return {str(index): value for index, value in enumerate(output) if value is not None}
    return {"": output}


def _is_logits(logits: Tensor) -> bool:
    return (logits.dim() == 2 and len(logits) == 1) or logits.numel() == logits.dim() == 1 or logits.dim() == 0


def _only_matrix(outputs: Mapping[str, Any], num_labels: int | None) -> str:
    if list(outputs) == [""]:
        return ""
    matrices = {
        name: value.shape[1]
        for name, value in outputs.items()
        if isinstance(value, Tensor) and value.dim() == 2 and len(value) == 1
    }
    fitting = [name for name, classes in matrices.items() if num_labels in (classes, classes + (classes == 1))]
    candidates = list(matrices) if len(matrices) == 1 else fitting
    if len(candidates) == 1:
        return candidates[0]
    raise NetworkError(
        f"The network returns several outputs, and it is not clear which holds the logits, of shape (batch, classes): "
        f"{_listed(outputs)}; name it with --logits; {OUT_OF_SCOPE}"
    )


def _named(outputs: Mapping[str, Any], requested: str) -> str:
    if requested in outputs and requested:
        return requested
    available = f"its outputs are {_listed(outputs)}" if list(outputs) != [""] else "it returns one: omit --logits"
    raise NetworkError(f"--logits: the network has no output {requested!r}; {available}")


def _listed(outputs: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_shape(value)}" for name, value in outputs.items()) or "none"


def _shape(value: Any) -> str:
    return f"{tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
