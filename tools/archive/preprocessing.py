"""The preprocessing of a network: its published one with the user's changes, and what is assumed without either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradcam.network.architecture import NetworkError
from tools.archive.published import Preprocessing

# Pixels are divided by the standard deviation.
SMALLEST_STD = 1e-6
MAX_LEVEL = 255


def chosen(
    default: Preprocessing,
    input_size: tuple[int, int] | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Preprocessing:
    """Return the preprocessing with changes.

    Args:
        default: for what is None below.
        input_size: height and width of the input, in pixels.
        mean: of each RGB channel, in [0, 1].
        std: of each RGB channel, in (0, 1].
    """
    changes: dict[str, Any] = {key: value for key, value in (("mean", mean), ("std", std)) if value is not None}
    if input_size is not None:
        # The crop keeps its share of the image, along the input's longer side.
        changes["resize_size"] = round(default.resize_size * max(input_size) / min(default.input_size))
        changes["input_size"] = input_size
    return replace(default, **changes)


def check_range(option: str, values: Sequence[float] | None, least: float) -> None:
    """Check the mean or the standard deviation.

    Raises:
        NetworkError: a value is less than `least` or greater than 1; the message suggests the value for levels to 255.
    """
    for value in values or ():
        if not least <= value <= 1:
            hint = f": write {value / MAX_LEVEL:.3g}, not {value:g}" if 1 < value <= MAX_LEVEL else ""
            raise NetworkError(
                f"{option} must be between 0 and 1, for pixels between 0 and 1, got {value:g}{hint}"
                f"{'; a standard deviation must not be 0' if value == 0 else ''}"
            )


def warning(model_file: Path, missing: Sequence[str], assumed: Preprocessing) -> str:
    """Return a warning about the options that are missing for a user's own network."""
    return (
        f"WARNING: how were the training images of {model_file.name} prepared? Without {', '.join(missing)}, this is "
        f"assumed:\n  {described(assumed)}\n"
        "  Other values than in training make predictions wrong, without any error. State the values of your training."
    )


def described(preprocessing: Preprocessing) -> str:
    """Return the preprocessing as options of the command."""
    height, width = preprocessing.input_size
    size = f"{height}" if height == width else f"{height}x{width}"
    return f"--input-size {size} --mean {numbers(preprocessing.mean)} --std {numbers(preprocessing.std)}"


def numbers(values: Sequence[float]) -> str:
    """Return numbers as the command takes them."""
    return ",".join(f"{value:.4g}" for value in values)
