"""The precision of the network up to the layer: calibrated, compared with float32, and chosen."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from gradcam.engines import engine as engines
from gradcam.engines import graph
from gradcam.engines.engine import EngineError, Examples
from gradcam.layer_splits import examples_of
from gradcam.settings import Engine, Precision, Settings
from gradcam.split.parts import Split
from tools.archive import calibration, fidelity, quantization
from tools.archive.calibration import CalibrationError, CalibrationSet
from tools.archive.fidelity import Fidelity

PrecisionChoice = Literal["float32", "bfloat16", "float16", "int8", "auto"]

TIMED_BATCH, TIMED_ROUNDS = 8, 9


@dataclass(frozen=True)
class PrecisionOptions:
    """What the user wants."""

    precision: PrecisionChoice
    engine: Engine
    folder: Path | None
    """Images for calibration and comparison."""
    min_agreement: float
    min_cosine: float


@dataclass(frozen=True)
class Candidate:
    """A trunk in one precision."""

    parts: Split
    fidelity: Fidelity
    milliseconds: float
    """Median time of the trunk per image, in batches of 8."""


def check(options: PrecisionOptions) -> None:
    """Check the options before anything expensive.

    Raises:
        CalibrationError: they do not go together, or a package is missing.
    """
    needs_folder = options.precision in ("int8", "auto")
    if needs_folder and options.folder is None:
        raise CalibrationError(
            f"--precision {options.precision} needs --calibration FOLDER with images like those to be served"
        )
    if options.precision == "float32" and options.folder is not None:
        raise CalibrationError("--calibration is for --precision bfloat16, float16, int8, or auto, got float32")
    if needs_folder and options.engine not in ("auto", "openvino"):
        raise CalibrationError(
            f"--precision {options.precision} needs --engine openvino or auto, got {options.engine!r}"
        )
    for name, value in (("--min-agreement", options.min_agreement), ("--min-cosine", options.min_cosine)):
        if not 0 <= value <= 1:
            raise CalibrationError(f"{name} must be between 0 and 1, got {value:g}")
    if needs_folder:
        quantization.check_nncf()


def decide(options: PrecisionOptions, parts: Split, settings: Settings, graph_file: Path) -> Settings:
    """Return the settings with the precision and its figures; write the graph if the precision is int8.

    Args:
        options: what the user wants.
        parts: the network as it was split, in float32.
        settings: of the archive, in float32.
        graph_file: for the quantized graph.

    Raises:
        CalibrationError: the images cannot be used, or the precision deviates too much from float32.
        EngineError: OpenVINO cannot run the network.
    """
    if options.folder is None:
        assert options.precision != "auto"  # `check` requires a folder for it
        return replace(settings, precision=options.precision)
    images = calibration.load(options.folder, settings)
    candidates = _candidates(options, parts, images, graph_file)
    print(table(candidates, len(images.held_back)), file=sys.stderr)
    chosen = _chosen(candidates, options)
    if chosen == "int8" and quantization.lacks_int8_instructions():
        print(_slow_int8(candidates), file=sys.stderr)
    if chosen == "int8":
        # As when the model is loaded.
        examples = examples_of(settings, torch.device("cpu"))
        engines.load_quantized(parts, graph_file, graph.sha256(graph_file), examples)
    else:
        graph_file.unlink(missing_ok=True)
        graph_file.with_suffix(".bin").unlink(missing_ok=True)
    return _described(replace(settings, precision=chosen), candidates[chosen].fidelity, images, graph_file)


def table(candidates: Mapping[Precision, Candidate], held_back: int) -> str:
    """Return a table of the precisions with their speed and their agreement with float32."""
    lines = [
        f"On {held_back} held-back images, compared with float32:",
        f"  {'precision':<10} {'engine':<9} {'ms/image':>8} {'same class':>11}   cosine of maps: median, 5 %, worst",
    ]
    for name, candidate in candidates.items():
        measured = candidate.fidelity
        cosines = f"{measured.cosine_median:.4f}  {measured.cosine_5_percent:.4f}  {measured.cosine_worst:.4f}"
        lines.append(
            f"  {name:<10} {candidate.parts.engine:<9} {candidate.milliseconds:>8.1f} {measured.agreement:>11.3f}   "
            + cosines
        )
    return "\n".join(lines)


def _chosen(candidates: Mapping[Precision, Candidate], options: PrecisionOptions) -> Precision:
    """Return the fastest precision that meets the thresholds.

    Raises:
        CalibrationError: the precision that the user named does not meet them.
    """
    meeting = {
        name: candidate
        for name, candidate in candidates.items()
        if candidate.fidelity.meets(options.min_agreement, options.min_cosine)
    }
    if options.precision == "auto":
        return min(meeting, key=lambda name: meeting[name].milliseconds)
    if options.precision not in meeting:
        raise CalibrationError(_deviation(options, candidates[options.precision].fidelity))
    return options.precision


def _deviation(options: PrecisionOptions, measured: Fidelity) -> str:
    helps = [
        "more calibration images, and images like those to be served (300 or more are good)",
        "lower thresholds, if the table's figures suffice for your purpose",
    ]
    if options.precision == "int8":
        helps += [
            "--precision bfloat16, or auto",
            "quantizing with accuracy control (nncf.quantize_with_accuracy_control, with the agreement of labels and "
            "maps as the measure), which this command does not do",
        ]
    return (
        f"{options.precision} deviates too much from float32: {measured.agreement:.3f} of the held-back images have "
        f"the same top class (--min-agreement {options.min_agreement:g}), and the cosine of the maps is "
        f"{measured.cosine_5_percent:.4f} at 5 % (--min-cosine {options.min_cosine:g}). "
        f"What may help: {'; '.join(helps)}"
    )


def _slow_int8(candidates: Mapping[Precision, Candidate]) -> str:
    ours, reference = candidates["int8"].milliseconds, candidates["float32"].milliseconds
    return (
        "Warning: this processor has no instructions for int8 (VNNI), so int8 gains less than on one that has them: "
        f"the network up to the layer took {ours:.1f} ms per image instead of {reference:.1f}"
    )


def _described(settings: Settings, measured: Fidelity, images: CalibrationSet, graph_file: Path) -> Settings:
    """Return the settings with the figures of their precision."""
    settings = replace(
        settings, held_back_images=len(images.held_back), images_sha256=images.sha256, **asdict(measured)
    )
    if settings.precision != "int8":
        return settings
    return replace(
        settings,
        calibration_images=len(images.calibration),
        graph_sha256=graph.sha256(graph_file),
        nncf=quantization.nncf_version(),
    )


def _candidates(
    options: PrecisionOptions, parts: Split, images: CalibrationSet, graph_file: Path
) -> dict[Precision, Candidate]:
    """Return what can run here, by precision.

    Raises:
        EngineError: the precision that the user named cannot.
    """
    splits: dict[Precision, Split] = {}
    for name in _compared(options.precision):
        try:
            splits[name] = _in_precision(name, parts, images, graph_file, only_if_fast=options.precision == "auto")
        except EngineError as error:
            if options.precision != "auto":
                raise
            print(f"{name} is left out: {error}", file=sys.stderr)
    times = _milliseconds(splits, images.held_back[:TIMED_BATCH])
    return {
        name: Candidate(split, fidelity.compare(split, parts, images.held_back), times[name])
        for name, split in splits.items()
    }


def _compared(choice: PrecisionChoice) -> tuple[Precision, ...]:
    return ("float32", "bfloat16", "int8") if choice == "auto" else ("float32", choice)


def _in_precision(name: Precision, parts: Split, images: CalibrationSet, graph_file: Path, only_if_fast: bool) -> Split:
    """Return the split in a precision.

    Raises:
        EngineError: OpenVINO cannot run it, or the processor lacks the precision and it has to be fast.
    """
    examples = images.held_back[:2]
    if name == "int8":
        sha256 = graph.save(quantization.quantize(parts, images.calibration), graph_file)
        return engines.load_quantized(parts, graph_file, sha256, Examples(examples))
    accelerated = engines.accelerate(parts, "auto", name, examples)
    if accelerated.precision == name:
        return accelerated
    if only_if_fast:
        raise EngineError(f"on this processor OpenVINO runs {accelerated.precision} instead")
    # Torch rounds to any precision, slowly.
    return engines.in_torch(parts, name)


def _milliseconds(splits: Mapping[Precision, Split], images: Tensor) -> dict[Precision, float]:
    """Return the median time of each trunk per image; the trunks take turns, so that all share the machine's noise."""
    times: dict[Precision, list[float]] = {name: [] for name in splits}
    with torch.inference_mode():
        for _ in range(TIMED_ROUNDS):
            for name, parts in splits.items():
                start = time.perf_counter()
                parts.features(images)
                times[name].append(1000 * (time.perf_counter() - start) / len(images))
    return {name: statistics.median(values) for name, values in times.items()}
