"""Quantization of the trunk to int8 with NNCF, a package of the group `build`."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import logging
from pathlib import Path

import openvino
from torch import Tensor

from gradcam.engines import graph
from gradcam.engines.engine import EngineError
from gradcam.split.parts import Split
from tools.archive.calibration import CalibrationError

CPU_INFORMATION = Path("/proc/cpuinfo")
# Linux's names of the instructions that multiply and add int8 in one step, on x86 and ARM.
INT8_INSTRUCTIONS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})


def check_nncf() -> None:
    """Check that NNCF is installed.

    Raises:
        CalibrationError: it is not.
    """
    if importlib.util.find_spec("nncf") is None:
        raise CalibrationError("--precision int8 needs the package nncf: python3 scripts/environment.py build")


def nncf_version() -> str:
    """Return NNCF's version."""
    return importlib.metadata.version("nncf")


def quantize(parts: Split, images: Tensor) -> openvino.Model:
    """Return the trunk as a graph in int8; the head is not part of it.

    Args:
        parts: the split, whose trunk OpenVINO can convert.
        images: to calibrate the ranges of activations on, normalized, (N, 3, H, W).

    Raises:
        EngineError: OpenVINO cannot convert the trunk, or NNCF cannot quantize it.
    """
    import nncf  # noqa: PLC0415  installed for builds only
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix  # noqa: PLC0415

    nncf.set_log_level(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # progress bars
            return nncf.quantize(
                graph.convert(parts.trunk, images[:2]),
                nncf.Dataset([image[None].numpy() for image in images]),  # (3, H, W) → (1, 3, H, W) each
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(images),
                # Without VNNI, sums of two products saturate at 16 bits; weights of 7 bits keep them below.
                advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
            )
    except Exception as error:  # converters may raise anything
        raise EngineError(f"This network cannot be quantized: {error}") from error


def lacks_int8_instructions() -> bool:
    """Return whether this processor is known to have no instructions for int8."""
    if not CPU_INFORMATION.exists():
        return False
    return not INT8_INSTRUCTIONS & set(CPU_INFORMATION.read_text().split())
