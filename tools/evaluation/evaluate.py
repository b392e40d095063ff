"""Measure how faithful explanations are: change the image where the map says so, and observe the prediction.

archive → load → Pipeline;  paths → evaluate → MeasuredMap → summarize → Summary → table, CSV, plot

Each image is explained for its predicted class, with each method at each layer, by the code that serves. The changes
are made to the model input, and the probability of that class is observed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from gradcam.errors import unknown_message
from gradcam.explain import cam
from gradcam.pipeline import Pipeline
from tools.archive.loading import ArchiveError, load
from tools.client.files import find_images
from tools.client.table import PIPE_COLUMNS, printable
from tools.evaluation.baseline_maps import BASELINES
from tools.evaluation.measurement import MeasuredMap, SkippedImage, evaluate
from tools.evaluation.model import EvaluationError, split_at
from tools.evaluation.report import plot, table, write_maps, write_summary
from tools.evaluation.summary import summarize
from tools.server.signals import INTERRUPTED

ARCHIVE = Path("model_store/resnet18.mar")
OUTPUT = Path("build/evaluation")

# Without the counterfactual, which shows evidence against the class, and Score-CAM, which takes minutes per image.
DEFAULT_METHODS = (*(name for name in cam.GRADIENT_METHODS if name != "counterfactual"), "ablationcam", *BASELINES)
# The command accepted this spelling first.
ALIASES = {"centre": "center"}


def name_list(text: str) -> tuple[str, ...]:
    """Parse comma-separated names, and return each once."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name; write gradcam,layercam")
    return names


def method_list(text: str) -> tuple[str, ...]:
    """Parse `--methods`."""
    known = (*cam.METHODS, *BASELINES)
    names = tuple(dict.fromkeys(ALIASES.get(name, name) for name in name_list(text)))
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(unknown_message("method", name, known))
    return names


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Measure on images how faithful the maps of an archive's methods and layers are.",
        epilog="Exit status: 0 all images measured; 1 some skipped, or nothing to measure; 2 wrong usage.",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="FOLDER", help="folders to search, or image files")
    parser.add_argument("--archive", type=Path, default=ARCHIVE, help="the model (default: %(default)s)")
    parser.add_argument(
        "--methods",
        type=method_list,
        default=DEFAULT_METHODS,
        metavar="METHOD,…",
        help=f"of {', '.join((*cam.METHODS, *BASELINES))} (default: all except counterfactual and scorecam)",
    )
    parser.add_argument("--layers", type=name_list, metavar="LAYER,…", help="(default: the model's layer)")
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, metavar="DIR", help="folder of CSV files and plot (default: %(default)s)"
    )
    return parser


def run(
    pipeline: Pipeline, images: Sequence[tuple[str, Path]], methods: Sequence[str], layers: Sequence[str]
) -> tuple[list[MeasuredMap], list[SkippedImage]]:
    """Evaluate images with a progress bar."""
    measured: list[MeasuredMap] = []
    skipped: list[SkippedImage] = []
    columns = (*Progress.get_default_columns()[:3], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("Maps", total=len(images) * len(methods) * len(layers))
        for entry in evaluate(pipeline, images, methods, layers):
            if isinstance(entry, MeasuredMap):
                measured.append(entry)
                progress.advance(task)
            else:
                skipped.append(entry)
                progress.advance(task, len(methods) * len(layers))
    return measured, skipped


def report(measured: Sequence[MeasuredMap], output: Path) -> None:
    """Print the table and write the files."""
    summaries = summarize(measured)
    write_maps(output / "pictures.csv", measured)
    write_summary(output / "summary.csv", summaries)
    plot(summaries).savefig(output / "plot.png", dpi=120)
    Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(table(summaries))
    print(f"Written to {output}: pictures.csv, summary.csv, plot.png")


def evaluate_archive(options: argparse.Namespace, images: Sequence[tuple[str, Path]]) -> int:
    """Evaluate an archive on images, and return the exit status.

    Raises:
        ArchiveError: the archive cannot be loaded.
        EvaluationError: it cannot be split at a layer, or no image can be measured.
    """
    pipeline = load(options.archive, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    layers = options.layers or (pipeline.settings.layer,)
    split_at(pipeline, layers)
    measured, skipped = run(pipeline, images, options.methods, layers)
    for entry in skipped:
        print(printable(f"skipped {entry.name}: {entry.reason}"), file=sys.stderr)
    if not measured:
        raise EvaluationError("No image could be measured")
    report(measured, options.output)
    return int(bool(skipped))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argument_parser()
    options = parser.parse_args(arguments)
    try:
        images = [(image.name, image.path) for image in find_images(options.inputs, options.output)]
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(str(error))
    try:
        return evaluate_archive(options, images)
    except (ArchiveError, EvaluationError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
