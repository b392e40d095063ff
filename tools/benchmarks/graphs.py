"""Measure what the explanation costs in an exported graph, in ONNX Runtime and OpenVINO.

The explained graph is compared with the part of it that computes the probabilities, by the same runtime.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tools.archive.loading import ArchiveError, load
from tools.benchmarks.method_results import machine
from tools.benchmarks.timing import Ratio, compare, interleaved
from tools.export.graph import explain, trace
from tools.export.methods import ExportError, check_method

BATCHES = (1, 8)
WARM_UP = 3
Call = Callable[[], object]


def write_graphs(archive: Path, folder: Path) -> tuple[tuple[int, int], str]:
    """Write the explained graph and its part for labels only, in both formats; return input size and a title."""
    import onnx  # noqa: PLC0415  in the group `export`

    from tools.export import formats  # noqa: PLC0415

    pipeline = load(archive, torch.device("cpu"), engine="eager", precision="float32")
    settings = pipeline.settings
    check_method(settings.method)
    formats.write_onnx(trace(explain(pipeline, settings.layer, settings.method)), folder / "maps.onnx", {})
    onnx.utils.extract_model(
        str(folder / "maps.onnx"), str(folder / "labels.onnx"), ["image"], ["probability"], infer_shapes=False
    )
    for name in ("maps", "labels"):
        formats.convert_to_openvino(folder / f"{name}.onnx", folder / f"{name}.xml", {})
    return settings.input_size, f"{settings.architecture}, {settings.method} at {settings.layer}"


def calls(folder: Path, runtime: str, image: NDArray[np.uint8], threads: int) -> dict[str, Call]:
    """Return functions that run the two graphs on images (B, H, W, 3), with one class explained for each."""
    target = np.full((len(image), 1), -1)
    inputs = {"labels": {"image": image}, "maps": {"image": image, "target": target}}
    if runtime == "onnxruntime":
        import onnxruntime  # noqa: PLC0415  in the group `export`

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        sessions = {
            name: onnxruntime.InferenceSession(folder / f"{name}.onnx", options, providers=providers) for name in inputs
        }
        return {name: partial(session.run, None, inputs[name]) for name, session in sessions.items()}
    import openvino  # noqa: PLC0415  in the group `export`

    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    models = {name: openvino.Core().compile_model(folder / f"{name}.xml", "CPU", config) for name in inputs}
    return {name: partial(model, inputs[name]) for name, model in models.items()}


def measure(archive: Path, rounds: int, threads: int) -> Iterator[tuple[str, str, int, float, Ratio]]:
    """Yield title, runtime, batch, median milliseconds of an explained image, and maps ÷ labels only."""
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="gradcam-graphs-") as folder:
        input_size, title = write_graphs(archive, Path(folder))
        for runtime in ("onnxruntime", "openvino"):
            for batch in BATCHES:
                image = generator.integers(0, 256, (batch, *input_size, 3), np.uint8)
                runs = calls(Path(folder), runtime, image, threads)
                for run in list(runs.values()) * WARM_UP:
                    run()
                seconds = interleaved(runs, rounds, lambda: None)
                milliseconds = 1000 * float(np.median(seconds["maps"])) / batch
                yield title, runtime, batch, milliseconds, compare(seconds["maps"], seconds["labels"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE", help="archives to export")
    parser.add_argument("--rounds", type=int, default=30, help="runs of each graph (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of a runtime (default: %(default)s)")
    options = parser.parse_args(arguments)
    print(f"{machine('cpu')['device']}, {options.threads} threads\n")
    print(
        "| model | runtime | batch | ms per image | maps ÷ labels only: median (quartiles), fastest |\n"
        + "|---" * 5
        + "|"
    )
    try:
        for archive in options.archives:
            for title, runtime, batch, ms, ratio in measure(archive, options.rounds, options.threads):
                cells = f"{ratio.median:.2f} ({ratio.lower:.2f} to {ratio.upper:.2f}), {ratio.fastest:.2f}"
                print(f"| {title} | {runtime} | {batch} | {ms:.1f} | {cells} |", flush=True)
    except (ArchiveError, ExportError) as error:
        print(f"benchmark_graphs: {error}", file=sys.stderr)
        return 1
    return 0
