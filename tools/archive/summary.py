"""What `build_mar.py` prints at the end: what was chosen for the archive, and the next commands."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from gradcam.settings import Settings
from gradcam.split.parts import Split
from tools.archive.preprocessing import numbers


@dataclass(frozen=True)
class Built:
    """An archive, and what was chosen when it was built."""

    archive: Path
    model: str
    settings: Settings
    layer_reason: str
    labels_source: str
    split: Split
    assumed: tuple[str, ...]
    """Options of preprocessing that the user has not set, and whose values may therefore be wrong."""


def layer_reason(module: nn.Module, requested: str | None) -> str:
    """Return why a layer is explained, in a few words.

    Args:
        module: the layer.
        requested: its name, if the user named it.
    """
    if requested is not None:
        return "named by --layer"
    # The default is either this or a later layer, which is then no convolution.
    return "last convolution that runs" if isinstance(module, nn.Conv2d) else "last layer that combines all features"


def text(built: Built) -> str:
    """Return the closing summary."""
    settings = built.settings
    height, width = settings.input_size
    rows = {
        "layer": f"{settings.layer} ({built.layer_reason})",
        "classes": f"{settings.num_classes}, labels {built.labels_source}",
        "probabilities": _probabilities(settings),
        "input": f"{height} × {width} pixels (height × width), {settings.transform}{_marked(built, '--input-size')}",
        "mean": f"{numbers(settings.mean)}{_marked(built, '--mean')}",
        "std": f"{numbers(settings.std)}{_marked(built, '--std')}",
        "split": "torch.fx" if built.split.method == "fx" else "hooks, for torch.fx cannot trace the network",
        "engine": _engine(built),
    }
    lines = [title(built.archive), *(f"  {name:<14} {value}" for name, value in rows.items())]
    return "\n".join([*lines, next_commands(built.archive, built.model)])


def title(archive: Path) -> str:
    """Return the archive's path and size."""
    return f"{archive} ({archive.stat().st_size / 1e6:.0f} MB)"


def next_commands(archive: Path, model: str) -> str:
    """Return the commands that serve the archive and send it an image."""
    path = os.path.relpath(archive) if archive.is_relative_to(Path.cwd()) else archive
    return (
        f"Serve it:    scripts/serve.py {path}\n"
        f"Then try it: curl -T examples/chelsea.jpg http://127.0.0.1:8080/predictions/{model}"
    )


def _probabilities(settings: Settings) -> str:
    source = f"output {settings.logits!r}: " if settings.logits else ""
    if settings.class_scores == "single_logit":
        return f"{source}two classes from a single logit z, as softmax of (-z/2, z/2)"
    kinds = {"softmax": "softmax over all classes", "sigmoid": "sigmoid of each class (multi-label)"}
    return f"{source}{kinds[settings.activation]}"


def _marked(built: Built, option: str) -> str:
    return f" (ASSUMED: no {option})" if option in built.assumed else ""


def _engine(built: Built) -> str:
    if built.settings.engine != "auto":
        return f"{built.settings.engine}, {built.settings.precision}"
    return f"auto (OpenVINO on CPUs if it can convert the network), {built.settings.precision}"
