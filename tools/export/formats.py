"""A trace as a file of ONNX or OpenVINO."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import openvino
import torch
from torch.export import ExportedProgram

from tools.export.graph import OUTPUTS
from tools.export.methods import ExportError

INPUTS = ("image", "target")
# A file of protocol buffers, such as ONNX's, has at most 2 GB.
MAX_ONNX_BYTES = 2**31 - 1


def write_onnx(program: ExportedProgram, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a trace as an ONNX file that contains the weights.

    Raises:
        ExportError: ONNX lacks an operator, or the file would be too large.
    """
    size = sum(tensor.nbytes for tensor in (*program.state_dict.values(), *program.constants.values()))
    if size > MAX_ONNX_BYTES:
        raise ExportError(f"An ONNX file has at most {MAX_ONNX_BYTES / 1e9:.1f} GB, got weights of {size / 1e9:.1f} GB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's exporter warns about its own deprecated calls
            exported = torch.onnx.export(program, dynamo=True, verbose=False)
    except Exception as error:  # the exporter may raise anything
        raise ExportError(f"Cannot convert to ONNX: {_first_cause(error)}") from error
    assert exported is not None
    _name_outputs(exported.model.graph)
    model = exported.model_proto
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _name_outputs(graph: Any) -> None:
    """Name a graph's outputs as in `OUTPUTS`; an inner value that has such a name gets another one."""
    for node in graph:
        for value in node.outputs:
            if value.name in OUTPUTS:
                value.name = f"inner_{value.name}"
    for value, name in zip(graph.outputs, OUTPUTS, strict=True):
        value.name = name


def write_openvino(program: ExportedProgram, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a trace as OpenVINO's IR: `path`, which ends in `.xml`, and the weights beside it in a `.bin` file.

    It is converted from ONNX, because OpenVINO reads more operators from ONNX than from torch, and faster.

    Raises:
        ExportError: ONNX or OpenVINO lacks an operator.
    """
    with tempfile.TemporaryDirectory(prefix="gradcam-export-") as folder:
        intermediate = Path(folder) / "network.onnx"
        write_onnx(program, intermediate, {})
        convert_to_openvino(intermediate, path, metadata)


def convert_to_openvino(source: Path, path: Path, metadata: Mapping[str, str]) -> None:
    """Convert an ONNX file to OpenVINO's IR.

    Raises:
        ExportError: OpenVINO lacks an operator.
    """
    try:
        model = openvino.convert_model(source)
    except Exception as error:  # the converter may raise anything
        raise ExportError(f"Cannot convert to OpenVINO: {_first_cause(error)}") from error
    for key, value in metadata.items():
        model.set_rt_info(value, [key])
    openvino.save_model(model, path, compress_to_fp16=False)


def _first_cause(error: BaseException) -> str:
    """Return the message of the error that started a chain of errors, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:500]


WRITERS: dict[str, tuple[str, Callable[[ExportedProgram, Path, Mapping[str, str]], None]]] = {
    "onnx": (".onnx", write_onnx),
    "openvino": (".xml", write_openvino),
}
"""Suffix and writer of each file format."""

logging.getLogger("torch.onnx").setLevel(logging.ERROR)
