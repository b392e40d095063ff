"""Run a written file in the runtime of its format, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray
from torch import Tensor

from tools.export.graph import OUTPUTS

Run = Callable[[Tensor, Tensor], "dict[str, NDArray[np.generic]]"]
"""Maps images (B, H, W, 3) and targets (B, T) to the outputs by name."""


def load_onnx(path: Path) -> Run:
    """Load a file into ONNX Runtime."""
    import onnxruntime  # noqa: PLC0415  in the group `export`; the command's help works without it

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; the default also reports constants that it removes
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(image: Tensor, target: Tensor) -> dict[str, NDArray[np.generic]]:
        values = session.run(OUTPUTS, {"image": image.numpy(), "target": target.numpy()})
        return dict(zip(OUTPUTS, values, strict=True))

    return run


def load_openvino(path: Path) -> Run:
    """Load a file into OpenVINO, in the precision of the file."""
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(image: Tensor, target: Tensor) -> dict[str, NDArray[np.generic]]:
        values = model({"image": image.numpy(), "target": target.numpy()})
        return {name: values[name] for name in OUTPUTS}

    return run


LOADERS: dict[str, Callable[[Path], Run]] = {"onnx": load_onnx, "openvino": load_openvino}
