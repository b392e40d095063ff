"""Measures how faithful explanations are: what becomes of the prediction when the map says where to change the picture.

archive → load → Pipeline;  paths → evaluate → Row → summarize → Summary → table, CSV, plot

Each picture is explained for its predicted class, with each method at each layer, by the code that serves. What is
changed is the model input, and what is watched is the probability of that class.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from matplotlib.figure import Figure
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.functional import gaussian_blur

from gradcam.engines.engine import EngineError
from gradcam.errors import RequestError, UnknownName, unknown_message
from gradcam.explain import cam
from gradcam.images.decoding import decode
from gradcam.images.geometry import CropGeometry
from gradcam.images.model_input import model_input, normalize
from gradcam.message import Request, Result
from gradcam.network.architecture import NetworkError
from gradcam.options import Options
from gradcam.pipeline import Pipeline
from gradcam.settings import Settings, SettingsError
from gradcam.split.parts import SplitError
from gradcam.split.splitter import split
from tools.client.files import find_images
from tools.client.table import PIPE_COLUMNS, printable

ARCHIVE = Path("model_store/resnet18.mar")
OUTPUT = Path("build/evaluation")

# Maps that know nothing of the network, so that the numbers have a scale.
BASELINES = ("random", "centre")
# Not the counterfactual, which shows what speaks against the class, nor Score-CAM, which takes minutes a picture.
DEFAULT_METHODS = (*(name for name in cam.GRADIENT_METHODS if name != "counterfactual"), "ablationcam", *BASELINES)

SEED = 0
BATCH = 32
# Of the deletion and insertion curves.
STEPS = 16
# The blur that insertion begins with, as in the code of its authors.
BLUR_PIXELS, BLUR_SIGMA = 11, 5.0
# Shares of the pixels that ROAD takes away. Of larger ones the imputation alone takes longer than all the rest.
ROAD_SHARES = (0.1, 0.2, 0.3, 0.5)
# Standard deviation of the Gaussian around the centre, where 1 is the picture's side.
CENTRE_SIGMA = 0.25
# Of the noise that decides between pixels of equal weight.
TIES_GRID = (7, 7)

Probability = Callable[[Tensor], Tensor]
"""Normalised images (N, 3, H, W) to the probability (N,) of the class that is explained."""


# ----------------------------------------------------------------------------- measures


@dataclass(frozen=True)
class Scores:
    """How faithful one map is."""

    deletion: float
    """Area under the curve, in [0, 1]; lower is better."""
    insertion: float
    """Area under the curve, in [0, 1]; higher is better."""
    drop_percent: float
    """Lower is better."""
    increase_percent: float
    """0 or 100; higher is better."""
    road: float
    """In [-0.5, 0.5]; higher is better, and 0 is what a map without knowledge gets."""


HIGHER_IS_BETTER = {
    "deletion": False,
    "insertion": True,
    "drop_percent": False,
    "increase_percent": True,
    "road": True,
}


def measure(probability: Probability, image: Tensor, black: Tensor, heatmap: Tensor) -> Scores:
    """Measures a map (h, w) of an image (3, H, W).

    Args:
        probability: of the class that the map explains.
        image: normalised.
        black: a black image, normalised.
        heatmap: in [0, 1]; resized bilinearly, as the overlay shows it.
    """
    resized = functional.interpolate(heatmap[None, None], image.shape[1:], mode="bilinear")[0, 0]  # (H, W)
    ranks = rank(resized)
    deletion = curve(probability, image, black, ranks)
    insertion = curve(probability, gaussian_blur(image, BLUR_PIXELS, BLUR_SIGMA), image, ranks)
    before, after = float(deletion[0]), float(probability((black + resized * (image - black))[None]))
    return Scores(
        deletion=area(deletion),
        insertion=area(insertion),
        drop_percent=drop_percent(before, after),
        increase_percent=increase_percent(before, after),
        road=road(probability, image, ranks),
    )


def rank(heatmap: Tensor) -> Tensor:
    """Returns each pixel's place (H, W), 0 where the map is highest.

    Served maps have many pixels of equal weight: all those where nothing speaks for the class are 0. Among these a
    coarse noise decides, the same for every map. The order of rows would remove the picture from one edge, and a
    noise of single pixels would shatter it.
    """
    height, width = heatmap.shape
    ties = noise(SEED, TIES_GRID)[None, None]
    resized = functional.interpolate(ties, (height, width), mode="bilinear")[0, 0]  # (H, W)
    order = np.lexsort((resized.flatten().numpy(), -heatmap.flatten().numpy()))  # (H·W,); the last key comes first
    ranks = torch.empty(len(order), dtype=torch.int64)
    ranks[torch.from_numpy(order)] = torch.arange(len(order))
    return ranks.reshape(height, width)


def curve(probability: Probability, start: Tensor, end: Tensor, ranks: Tensor) -> Tensor:
    """Returns the probabilities (STEPS + 1,) while pixels of `start` give way to those of `end`, in order of rank.

    From the image to black this is deletion, from the blurred image to the image insertion.

    Petsiuk et al. 2018, RISE, arXiv 1806.07421, section 4.2.
    """
    counts = torch.linspace(0, ranks.numel(), STEPS + 1).round()
    exchanged = ranks < counts[:, None, None]  # (STEPS + 1, H, W)
    return probability(torch.where(exchanged[:, None], end, start))


def area(probabilities: Tensor) -> float:
    """Returns the area under a curve whose abscissa goes from 0 to 1, by the trapezoidal rule."""
    return float(torch.trapezoid(probabilities, dx=1 / (len(probabilities) - 1)))


def drop_percent(before: float, after: float) -> float:
    """Returns 100 · max(0, Y - O) / Y, for the probability Y on the image and O on the image multiplied by the map.

    Chattopadhay et al. 2018, Grad-CAM++, arXiv 1710.11063, section 5.1.1. (pytorch-grad-cam's `DropInConfidence` is
    not this: it leaves out the division by Y, and multiplies the normalised image, which fades to grey.)
    """
    return 100 * max(0.0, before - after) / before


def increase_percent(before: float, after: float) -> float:
    """Returns 100 where the probability rises on the image multiplied by the map, else 0.

    Chattopadhay et al. 2018, Grad-CAM++, arXiv 1710.11063, section 5.1.1.
    """
    return 100.0 * (after > before)


def road(probability: Probability, image: Tensor, ranks: Tensor) -> float:
    """Returns (LeRF - MoRF) / 2: the probability without the least relevant pixels, less that without the most.

    Each is a mean over `ROAD_SHARES`; what is taken away is filled in with noisy linear imputation.

    Rong et al. 2022, arXiv 2202.00449; the combination of the two orders is pytorch-grad-cam's `ROADCombined`, and so
    is the imputer. Its choice of pixels is not: where more pixels share one weight than are to be taken, as the
    zeros of a served map do, its percentile takes too few of them or all of the picture.
    """
    count = ranks.numel()
    most = [ranks >= round(share * count) for share in ROAD_SHARES]
    least = [ranks < count - round(share * count) for share in ROAD_SHARES]
    imputer = NoisyLinearImputer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        imputed = torch.stack([imputer(image, kept.float()) for kept in (*most, *least)])  # (2·S, 3, H, W)
    morf, lerf = probability(imputed).reshape(2, -1).mean(dim=1)
    return float(lerf - morf) / 2


# ----------------------------------------------------------------------------- baselines


def baseline(name: str, grid: tuple[int, int], seed: int) -> Tensor:
    """Returns one of the `BASELINES` as a map (h, w) as fine as those that it is compared with."""
    return noise(seed, grid) if name == "random" else centre(grid)


def noise(seed: int, grid: tuple[int, int]) -> Tensor:
    """Returns a map (h, w), uniform in [0, 1)."""
    return torch.rand(grid, generator=torch.Generator().manual_seed(seed))


def centre(grid: tuple[int, int]) -> Tensor:
    """Returns a map (h, w) that guesses that what counts is in the middle of the picture."""
    rows, columns = ((torch.arange(length) + 0.5) / length - 0.5 for length in grid)
    return cam.normalize(torch.exp(-(rows[:, None] ** 2 + columns**2) / (2 * CENTRE_SIGMA**2))[None])[0]


# ----------------------------------------------------------------------------- model


class EvaluationError(Exception):
    """Nothing can be measured; the message says why."""


def load(archive: Path) -> Pipeline:
    """Loads the network of an archive as its handler does.

    Raises:
        EvaluationError: it is no archive of this project's.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="gradcam-evaluate-") as folder, zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
            return _load_unpacked(Path(folder))
    except (
        OSError,
        KeyError,
        zipfile.BadZipFile,
        SettingsError,
        NetworkError,
        SplitError,
        EngineError,
        UnknownName,
    ) as error:
        raise EvaluationError(f"{archive} cannot be loaded: {error}") from error


def _load_unpacked(folder: Path) -> Pipeline:
    model = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_text(encoding="utf-8"))["model"]
    config = yaml.safe_load((folder / model["configFile"]).read_text(encoding="utf-8"))
    # Nobody waits for an answer here, so Score-CAM may take its time.
    settings = replace(Settings.from_mapping(config.get("gradcam")), max_batch_seconds=math.inf)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Pipeline.load(folder, model["serializedFile"], settings, device)


def cut(pipeline: Pipeline, layers: Sequence[str]) -> None:
    """Cuts the network at the layers.

    Raises:
        EvaluationError: it cannot be cut there.
    """
    for layer in layers:
        try:
            pipeline.splits[layer] = split(pipeline.network, layer, pipeline.settings.input_size)
        except (UnknownName, SplitError) as error:
            raise EvaluationError(str(error)) from error


def probability_of(pipeline: Pipeline, target: int) -> Probability:
    """Returns the function that runs the network, in float32 whatever it is served in."""

    def probability(normalized: Tensor) -> Tensor:
        with torch.inference_mode():
            chunks = torch.split(normalized, BATCH)  # (n, 3, H, W) each
            logits = torch.cat([pipeline.network(chunk.to(pipeline.device)) for chunk in chunks])  # (N, K)
            return logits.softmax(dim=1)[:, target].cpu()

    return probability


# ----------------------------------------------------------------------------- pictures


@dataclass(frozen=True)
class Row:
    """One map, measured."""

    picture: str
    index: int
    """Of the predicted class."""
    label: str
    probability: float
    method: str
    layer: str
    scores: Scores


@dataclass(frozen=True)
class Skipped:
    """A picture that cannot be explained."""

    picture: str
    reason: str


def evaluate(
    pipeline: Pipeline, pictures: Sequence[tuple[str, Path]], methods: Sequence[str], layers: Sequence[str]
) -> Iterator[Row | Skipped]:
    """Explains and measures pictures; yields a row for each method at each layer, or that a picture is skipped.

    Args:
        pipeline: cut at the layers.
        pictures: a name and a path each.
        methods: of `cam.METHODS` and `BASELINES`.
        layers: names of modules.
    """
    for name, path in pictures:
        try:
            content = path.read_bytes()
            image, black = _inputs(pipeline, content)
            for layer in layers:
                explained = _explain(pipeline, content, methods, layer)
                for method, (result, heatmap) in explained.items():
                    predicted = result.predictions[0]
                    scores = measure(probability_of(pipeline, predicted.index), image, black, heatmap)
                    yield Row(name, predicted.index, predicted.label, predicted.probability, method, layer, scores)
        except OSError as error:
            yield Skipped(name, f"cannot be read: {error.strerror}")
        except RequestError as error:
            yield Skipped(name, str(error))


def _inputs(pipeline: Pipeline, content: bytes) -> tuple[Tensor, Tensor]:
    """Returns what the network sees of a picture, and a black one; (3, H, W), normalised."""
    picture = decode(content, pipeline.settings)
    view = CropGeometry.of(picture.width, picture.height, pipeline.settings)
    image = model_input(picture.image, view, pipeline.settings.decoding)  # (3, H, W)
    image, black = normalize(torch.stack([image, torch.zeros_like(image)]), pipeline.settings)
    return image, black


def _explain(
    pipeline: Pipeline, content: bytes, methods: Sequence[str], layer: str
) -> dict[str, tuple[Result, Tensor]]:
    """Returns each method's answer and map (h, w); a baseline has the answer of the first request.

    Raises:
        RequestError: the picture cannot be explained.
    """
    served = [method for method in methods if method not in BASELINES]
    # Without a method there is still a prediction to be had.
    options = [Options(method=method, layer=(layer,)) for method in served] or [Options(explain=0)]
    results = [_result(answer) for answer in pipeline.answer([Request(content, option) for option in options])]
    maps = {
        method: (result, torch.from_numpy(result.explanations[0].heatmap))
        for method, result in zip(served, results, strict=False)
    }
    layout = pipeline.splits[layer].layout
    grid = (layout.height, layout.width)
    # Seeded by the picture itself, so that its numbers are the same whatever other pictures there are.
    seed = zlib.crc32(content)
    guesses = {name: (results[0], baseline(name, grid, seed)) for name in methods if name in BASELINES}
    return maps | guesses


def _result(answer: Result | RequestError) -> Result:
    if isinstance(answer, RequestError):
        raise answer
    return answer


# ----------------------------------------------------------------------------- summary


@dataclass(frozen=True)
class Estimate:
    """A mean over pictures, and its standard error: NaN for a single picture."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Returns the mean and s / √n, with s the sample's standard deviation."""
        deviation = statistics.stdev(values) if len(values) > 1 else math.nan
        return cls(statistics.fmean(values), deviation / math.sqrt(len(values)))


@dataclass(frozen=True)
class Summary:
    """One method at one layer, over all pictures."""

    method: str
    layer: str
    pictures: int
    estimates: dict[str, Estimate]
    """By the names of the fields of `Scores`."""


MEASURES = tuple(field.name for field in fields(Scores))


def summarize(rows: Sequence[Row]) -> list[Summary]:
    """Returns a summary for each method at each layer, layer by layer."""
    groups: dict[tuple[str, str], list[Scores]] = {}
    for row in rows:
        groups.setdefault((row.layer, row.method), []).append(row.scores)
    return [
        Summary(
            method,
            layer,
            len(scores),
            {name: Estimate.of([getattr(score, name) for score in scores]) for name in MEASURES},
        )
        for (layer, method), scores in groups.items()
    ]


def best(summaries: Sequence[Summary], name: str) -> float:
    """Returns the best mean of a measure."""
    means = [summary.estimates[name].mean for summary in summaries]
    return max(means) if HIGHER_IS_BETTER[name] else min(means)


# ----------------------------------------------------------------------------- output


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Writes a line for each picture, method and layer."""
    header = [field.name for field in fields(Row)][:-1] + list(MEASURES)
    _write_csv(path, header, ([*list(vars(row).values())[:-1], *astuple(row.scores)] for row in rows))


def write_summary(path: Path, summaries: Sequence[Summary]) -> None:
    """Writes a line for each method and layer: of each measure the mean and its standard error."""
    header = ["method", "layer", "pictures", *(name + suffix for name in MEASURES for suffix in ("", "_error"))]
    lines = (
        [summary.method, summary.layer, summary.pictures]
        + [value for name in MEASURES for value in asdict(summary.estimates[name]).values()]
        for summary in summaries
    )
    _write_csv(path, header, lines)


def _write_csv(path: Path, header: list[str], lines: Iterator[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([round(cell, 6) if isinstance(cell, float) else cell for cell in line] for line in lines)


def table(summaries: Sequence[Summary]) -> Table:
    """Returns the summaries as a table; the best mean of each measure stands out."""
    shown = Table("Layer", "Method", caption=f"Mean ± standard error over {summaries[0].pictures} pictures")
    for name in MEASURES:
        shown.add_column(f"{_title(name)} {'↑' if HIGHER_IS_BETTER[name] else '↓'}", justify="right")
    winners = {name: best(summaries, name) for name in MEASURES}
    for index, summary in enumerate(summaries):
        cells = (_cell(name, summary.estimates[name], winners[name]) for name in MEASURES)
        first = index == 0 or summaries[index - 1].layer != summary.layer
        if first:
            shown.add_section()
        shown.add_row(printable(summary.layer) if first else "", summary.method, *cells)
    return shown


def _title(name: str) -> str:
    return "ROAD" if name == "road" else name.replace("_percent", " %").capitalize()


def _cell(name: str, estimate: Estimate, winner: float) -> str:
    digits = 1 if name.endswith("percent") else 3
    text = f"{estimate.mean:.{digits}f} ± {estimate.error:.{digits}f}"
    return f"[bold]{text}[/bold]" if estimate.mean == winner else text


def plot(summaries: Sequence[Summary]) -> Figure:
    """Returns a panel for each measure, with a line for each method and a colour for each layer."""
    layers = list(dict.fromkeys(summary.layer for summary in summaries))
    methods = list(dict.fromkeys(summary.method for summary in summaries))
    figure = Figure(figsize=(16, 1.5 + 0.4 * len(methods)), layout="constrained")
    panels = figure.subplots(1, len(MEASURES), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, MEASURES, strict=True):
        for number, layer in enumerate(layers):
            points = [summary for summary in summaries if summary.layer == layer]
            shift = 0.2 * (number - (len(layers) - 1) / 2)
            panel.errorbar(
                x=[summary.estimates[name].mean for summary in points],
                y=[methods.index(summary.method) + shift for summary in points],
                xerr=[np.nan_to_num(summary.estimates[name].error) for summary in points],
                fmt="o",
                # Matplotlib leaves names that begin with "_" out of the legend.
                label=f"at {layer}",
            )
        panel.set_title(f"{_title(name)} ({'higher' if HIGHER_IS_BETTER[name] else 'lower'} is better)", fontsize=10)
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(methods)), methods)
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(layers))
    return figure


# ----------------------------------------------------------------------------- command line


def name_list(text: str) -> tuple[str, ...]:
    """Reads names with commas between them, each once."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name; write gradcam,layercam")
    return names


def method_list(text: str) -> tuple[str, ...]:
    """Reads `--methods`."""
    known = (*cam.METHODS, *BASELINES)
    for name in name_list(text):
        if name not in known:
            raise argparse.ArgumentTypeError(unknown_message("method", name, known))
    return name_list(text)


def argument_parser() -> argparse.ArgumentParser:
    """Describes the command line."""
    parser = argparse.ArgumentParser(
        description="Measures on pictures how faithful the maps of an archive's methods and layers are.",
        epilog="Exit status: 0 all pictures measured, 1 some skipped or nothing to measure, 2 wrong usage.",
    )
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="FOLDER", help="searched for pictures; a picture itself will do"
    )
    parser.add_argument("--archive", type=Path, default=ARCHIVE, help="the model (default: %(default)s)")
    parser.add_argument(
        "--methods",
        type=method_list,
        default=DEFAULT_METHODS,
        metavar="METHOD,…",
        help=f"of {', '.join((*cam.METHODS, *BASELINES))} (default: all but counterfactual and scorecam)",
    )
    parser.add_argument("--layers", type=name_list, metavar="LAYER,…", help="(default: the model's)")
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, metavar="DIR", help="where CSV and plot go (default: %(default)s)"
    )
    return parser


def run(
    pipeline: Pipeline, pictures: Sequence[tuple[str, Path]], methods: Sequence[str], layers: Sequence[str]
) -> tuple[list[Row], list[Skipped]]:
    """Evaluates with a progress bar."""
    rows: list[Row] = []
    skipped: list[Skipped] = []
    columns = (*Progress.get_default_columns()[:3], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("Maps", total=len(pictures) * len(methods) * len(layers))
        for outcome in evaluate(pipeline, pictures, methods, layers):
            if isinstance(outcome, Row):
                rows.append(outcome)
                progress.advance(task)
            else:
                skipped.append(outcome)
                progress.advance(task, len(methods) * len(layers))
    return rows, skipped


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line."""
    parser = argument_parser()
    given = parser.parse_args(arguments)
    try:
        found = find_images(given.inputs, given.output)
        given.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(str(error))
    try:
        pipeline = load(given.archive)
        layers = given.layers or (pipeline.settings.layer,)
        cut(pipeline, layers)
    except EvaluationError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    pictures = [(picture.name, picture.path) for picture in found]
    rows, skipped = run(pipeline, pictures, given.methods, layers)
    for entry in skipped:
        print(printable(f"skipped {entry.picture}: {entry.reason}"), file=sys.stderr)
    if not rows:
        print("evaluate: no picture could be measured", file=sys.stderr)
        return 1
    report(rows, given.output)
    return int(bool(skipped))


def report(rows: Sequence[Row], output: Path) -> None:
    """Prints the table and writes the files."""
    summaries = summarize(rows)
    write_rows(output / "pictures.csv", rows)
    write_summary(output / "summary.csv", summaries)
    plot(summaries).savefig(output / "plot.png", dpi=120)
    Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(table(summaries))
    print(f"Written to {output}: pictures.csv, summary.csv, plot.png")
