"""Measures what an explanation costs: against the plain forward pass, and against the peers' libraries.

contests → interleaved → seconds → compare → Row → table, JSON

Everybody gets the same normalised images and has to give the prediction and the map of the predicted class. A round
runs every contestant once, in random order, and each ratio is taken within a round, so that what else the machine does
meets all alike. Seconds are kept in the JSON, but mean little on a machine that is not idle.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import io
import json
import math
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from gradcam.engines import engine as engines
from gradcam.explain import cam
from gradcam.explain.explainer import Explainer, ForwardPass, Pair
from gradcam.message import Request
from gradcam.network import architecture as network
from gradcam.network.architecture import NetworkError
from gradcam.network.labels import Labels
from gradcam.network.target_layer import default_layer
from gradcam.options import Options
from gradcam.pipeline import Pipeline
from gradcam.protocols import single_image as plain
from gradcam.settings import Engine, Settings
from gradcam.split.parts import SplitError
from gradcam.split.splitter import split
from gradcam.split.verification import random_images

OUTPUT = Path("build/benchmark")
SEED = 0
INPUT_SIZE = (224, 224)
CLASSES = 1000
MANY = 10
# A GPU is not busy before.
BATCHES = {"cpu": (1, 8), "cuda": (1, 8, 32, 128, 256)}

# Each is hundreds of passes through the network where a peer computes it.
HEAVY = ("ablationcam", "scorecam")
HEAVY_ROUNDS = 3

PLAIN = "plain forward"
PLAIN_LAYOUT = "plain forward in our layout"
OURS = "ours"
OURS_OPENVINO = "ours, openvino"
OURS_MANY = f"ours, {MANY} classes"
TORCHCAM = "torch-cam"
TORCHCAM_FROZEN = "torch-cam, frozen before the layer"
GRADCAM = "pytorch-grad-cam"
CAPTUM = "Captum"
TWO_HOOKS = "two hooks, full backward"

# What the peers call the methods that they share.
TORCHCAM_CLASSES = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMpp",
    "xgradcam": "XGradCAM",
    "layercam": "LayerCAM",
    "finercam": "FinerCAM",
    "scorecam": "ScoreCAM",
}
GRADCAM_CLASSES = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMPlusPlus",
    "xgradcam": "XGradCAM",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "eigencam": "EigenCAM",
    "eigengradcam": "EigenGradCAM",
    "finercam": "FinerCAM",
    "ablationcam": "AblationCAM",
    "scorecam": "ScoreCAM",
}

SOAK_SIZE = (64, 64)
SOAK_METHODS = tuple(method for method in cam.METHODS if method != "scorecam")

Run = Callable[[], object]
Explain = Callable[[Tensor], object]
"""Takes images (B, 3, H, W) to a prediction and a map of the predicted class each."""

console = Console()
progress = Console(stderr=True)


# ----------------------------------------------------------------------------- contestants


def plain_forward(model: nn.Module) -> Explain:
    """Returns the network alone, as one serves it that explains nothing."""

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = model(images)  # (B, K)
        return logits

    return run


def plain_forward_in_our_layout(model: nn.Module) -> Explain:
    """Returns the network alone, in the layout that ours is in."""
    run = plain_forward(model.to(memory_format=torch.channels_last))
    return lambda images: run(images.to(memory_format=torch.channels_last))


def ours(model: nn.Module, layer: str, method: str, classes: int = 1, engine: Engine = "eager") -> Explain:
    """Returns what the handler does between decoding and rendering, for the `classes` most probable classes."""
    parts = split(model.to(memory_format=torch.channels_last), layer, INPUT_SIZE)
    parts = engines.accelerate(parts, engine, "float32", random_images(model, INPUT_SIZE, 2))
    explainer = Explainer(Settings.max_replay_bytes)

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            images = images.to(memory_format=torch.channels_last)
            features = parts.features(images).float()
            forward = ForwardPass(parts, images, features, parts.logits(features))
        targets = forward.logits.topk(classes, dim=1).indices.tolist()
        pairs = [Pair(row, target, method) for row, most in enumerate(targets) for target in most]
        maps, _ = explainer.maps(forward, pairs, math.inf)
        return maps

    return run


def torchcam(model: nn.Module, layer: str, method: str) -> Explain:
    """Returns torch-cam as its documentation has it."""
    extractor = getattr(import_module("torchcam.methods"), TORCHCAM_CLASSES[method])(model, layer)
    by_gradients = method in cam.GRADIENT_METHODS

    def run(images: Tensor) -> object:
        with torch.inference_mode(not by_gradients):
            scores = model(images)  # (B, K)
        return extractor(scores.argmax(dim=1).tolist(), scores)

    return run


def torchcam_frozen(model: nn.Module, layer: str, method: str) -> Explain:
    """Returns torch-cam with no gradients in front of the layer, as somebody would use it who knows autograd well."""
    model.requires_grad_(False)
    model.get_submodule(layer).requires_grad_(True)
    return torchcam(model, layer, method)


def pytorch_grad_cam(model: nn.Module, layer: str, method: str) -> Explain:
    """Returns pytorch-grad-cam; without targets it explains the predicted class."""
    explain = getattr(import_module("pytorch_grad_cam"), GRADCAM_CLASSES[method])(model, [model.get_submodule(layer)])

    def run(images: Tensor) -> object:
        with redirect_stderr(io.StringIO()):  # progress bars
            return explain(images, None)

    return run


def captum(model: nn.Module, layer: str, method: str) -> Explain:
    """Returns Captum's LayerGradCam, which has to be told the class: the prediction is a forward pass of its own."""
    explain = import_module("captum.attr").LayerGradCam(model, model.get_submodule(layer))

    def run(images: Tensor) -> object:
        with torch.no_grad():
            classes = model(images).argmax(dim=1)  # (B,)
        return explain.attribute(images, classes, relu_attributions=True)

    return run


def two_hooks(model: nn.Module, layer: str, method: str) -> Explain:
    """Returns Grad-CAM as tutorials teach it: a hook for each direction, and gradients of every parameter."""
    kept: dict[str, Tensor] = {}

    def keep_activations(module: nn.Module, inputs: Any, output: Tensor) -> None:
        kept["activations"] = output.detach()

    def keep_gradients(module: nn.Module, inputs: Any, outputs: Any) -> None:
        kept["gradients"] = outputs[0]

    module = model.get_submodule(layer)
    module.register_forward_hook(keep_activations)
    module.register_full_backward_hook(keep_gradients)

    def run(images: Tensor) -> Tensor:
        logits = model(images)  # (B, K)
        model.zero_grad()
        logits.amax(dim=1).sum().backward()
        weights = kept["gradients"].mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
        maps = (weights * kept["activations"]).sum(dim=1).relu()  # (B, h, w)
        return maps / maps.amax(dim=(1, 2), keepdim=True)

    return run


Make = Callable[[nn.Module, str, str], Explain]


def peers(method: str) -> dict[str, Make]:
    """Returns who else computes a method."""
    found: dict[str, Make] = {}
    if method in TORCHCAM_CLASSES:
        found[TORCHCAM] = torchcam
    if method in GRADCAM_CLASSES:
        found[GRADCAM] = pytorch_grad_cam
    if method == "gradcam":
        found |= {TORCHCAM_FROZEN: torchcam_frozen, CAPTUM: captum, TWO_HOOKS: two_hooks}
    return found


# ----------------------------------------------------------------------------- time


def interleaved(runs: Mapping[str, Run], rounds: int, synchronize: Run) -> dict[str, list[float]]:
    """Times each run once a round, in an order that changes; returns the seconds of each, by round."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    shuffled = random.Random(SEED)
    for _ in range(rounds):
        for name in shuffled.sample(list(runs), len(runs)):
            start = time.perf_counter()
            runs[name]()
            synchronize()
            seconds[name].append(time.perf_counter() - start)
    return seconds


@dataclass(frozen=True)
class Ratio:
    """How many times as long one takes as another, over the rounds."""

    median: float
    lower: float
    """First quartile."""
    upper: float
    """Third quartile."""
    fastest: float
    """Of the best round of the one to the best round of the other: what an idle machine would show."""


def compare(seconds: Sequence[float], reference: Sequence[float]) -> Ratio:
    """Returns the ratio, from the seconds of the same rounds."""
    ratios = [own / other for own, other in zip(seconds, reference, strict=True)]
    lower, median, upper = map(float, np.percentile(ratios, (25, 50, 75)))
    return Ratio(median, lower, upper, min(seconds) / min(reference))


@dataclass(frozen=True)
class Goal:
    """What a ratio should be."""

    limit: float
    at_least: bool = False
    """Rather than at most."""

    def met(self, ratio: Ratio) -> bool:
        """Tells whether the median is on the right side."""
        return ratio.median >= self.limit if self.at_least else ratio.median <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


EXPLAINED = Goal(1.10)
MANY_CLASSES = Goal(1.25)
NOT_SLOWER = Goal(1, at_least=True)
ABLATION = Goal(20, at_least=True)


@dataclass(frozen=True)
class Row:
    """A line of the table: `measured` ÷ `reference`."""

    method: str
    batch: int
    measured: str
    reference: str
    ratio: Ratio
    goal: Goal | None


def rows(method: str, batch: int, seconds: Mapping[str, Sequence[float]]) -> list[Row]:
    """Returns the lines of one contest, from the seconds of each contestant."""
    pairs: list[tuple[str, str, Goal | None]] = []
    if PLAIN in seconds:
        pairs += [(OURS_OPENVINO, OURS, None)] if OURS_OPENVINO in seconds else []
        pairs += [(OURS, PLAIN, EXPLAINED), (OURS, PLAIN_LAYOUT, EXPLAINED), (OURS_MANY, OURS, MANY_CLASSES)]
    pairs += [(name, OURS, _goal(method, name)) for name in peers(method) if name in seconds]
    return [Row(method, batch, a, b, compare(seconds[a], seconds[b]), goal) for a, b, goal in pairs]


def _goal(method: str, peer: str) -> Goal | None:
    if peer == TORCHCAM:
        return NOT_SLOWER
    return ABLATION if (method, peer) == ("ablationcam", GRADCAM) else None


# ----------------------------------------------------------------------------- contests


@dataclass(frozen=True)
class Contest:
    """What runs in the same rounds."""

    method: str
    batch: int
    rounds: int


def contests(rounds: int, device: str) -> list[Contest]:
    """Returns Grad-CAM in every batch size, then each method that a peer has too, for one image."""
    others = [method for method in cam.METHODS if method != "gradcam" and peers(method)]
    return [Contest("gradcam", batch, rounds) for batch in BATCHES[device]] + [
        Contest(method, 1, min(rounds, HEAVY_ROUNDS) if method in HEAVY else rounds) for method in others
    ]


class Benchmark:
    """One network with seeded weights, the images, and what could not be measured."""

    def __init__(self, architecture: str, device: str) -> None:
        torch.manual_seed(SEED)
        # The peers need parameters that take gradients, as a network has them that is loaded in the usual way.
        self.model = network.build(architecture, CLASSES).requires_grad_(True).to(device)
        self.layer = default_layer(network.build(architecture, CLASSES), INPUT_SIZE)
        self.device = device
        self.images = torch.randn(max(BATCHES[device]), 3, *INPUT_SIZE, device=device)
        self.synchronize: Run = torch.cuda.synchronize if device == "cuda" else lambda: None
        self.left_out: dict[str, str] = {}

    def run(self, contest: Contest) -> dict[str, list[float]]:
        """Returns the seconds of each contestant by round; a peer that cannot do it is left out, with the reason."""
        images = self.images[: contest.batch]
        runs = {name: lambda explain=explain: explain(images) for name, explain in self._able(contest, images)}
        return interleaved(runs, contest.rounds, self.synchronize)

    def _able(self, contest: Contest, images: Tensor) -> Iterator[tuple[str, Explain]]:
        """Yields the contestants, warmed up."""
        if contest.method == "gradcam":
            yield PLAIN, self._warm(plain_forward(self._copy()), images)
            yield PLAIN_LAYOUT, self._warm(plain_forward_in_our_layout(self._copy()), images)
            yield OURS_MANY, self._warm(ours(self._frozen(), self.layer, contest.method, MANY), images)
        yield OURS, self._warm(ours(self._frozen(), self.layer, contest.method), images)
        optional = peers(contest.method)
        if contest.method == "gradcam":
            optional[OURS_OPENVINO] = partial(ours, engine="openvino")
        for name, make in optional.items():
            try:
                yield name, self._warm(make(self._copy(), self.layer, contest.method), images)
            except (ImportError, RuntimeError, ValueError, TypeError) as error:
                self.left_out[f"{name}, {contest.method}"] = str(error).partition("\n")[0]

    def _warm(self, explain: Explain, images: Tensor) -> Explain:
        explain(images)
        return explain

    def _copy(self) -> nn.Module:
        # Each has its own: hooks stay, a cut changes in-place operations, and Ablation-CAM replaces a layer.
        return copy.deepcopy(self.model)

    def _frozen(self) -> nn.Module:
        return self._copy().requires_grad_(False)


def measure(benchmark: Benchmark, rounds: int) -> tuple[list[Row], list[dict[str, Any]]]:
    """Runs all contests; returns the table's lines, and the seconds for the record."""
    lines: list[Row] = []
    record = []
    for contest in track(contests(rounds, benchmark.device), "Measuring", console=progress):
        seconds = benchmark.run(contest)
        lines += rows(contest.method, contest.batch, seconds)
        record.append({**asdict(contest), "seconds": seconds})
    return lines, record


# ----------------------------------------------------------------------------- memory


@dataclass(frozen=True)
class Soak:
    """The process's resident memory over many explanations, in MB."""

    explanations: int
    before: float
    after: float
    per_thousand: float
    """Slope of the line through all samples, per 1,000 explanations."""


def soak_result(counts: Sequence[int], resident: Sequence[float]) -> Soak:
    """Sums up samples of the resident memory in MB, each after so many explanations."""
    slope = float(np.polyfit(counts, resident, 1)[0]) if len(counts) > 1 else 0.0
    return Soak(counts[-1] - counts[0], resident[0], resident[-1], 1000 * slope)


def soak(architecture: str, explanations: int) -> Soak:
    """Explains one small picture over and over with every method but Score-CAM, from its bytes to the JSON."""
    pipeline = _small_pipeline(architecture)
    requests = [Request(_picture(), Options(method=method, overlay="png")) for method in SOAK_METHODS]

    def explain() -> None:
        for result in pipeline.answer(requests):
            plain.reply([result])

    process = psutil.Process()
    batches = math.ceil(explanations / len(requests))
    for _ in range(max(1, batches // 10)):  # until what is allocated once has been
        explain()
    samples = [process.memory_info().rss / 1e6]
    for _ in track(range(batches), "Explaining", console=progress):
        explain()
        samples.append(process.memory_info().rss / 1e6)
    return soak_result([len(requests) * number for number in range(len(samples))], samples)


def _small_pipeline(architecture: str) -> Pipeline:
    torch.manual_seed(SEED)
    model = network.build(architecture, CLASSES)
    settings = Settings(
        architecture=architecture,
        num_classes=CLASSES,
        weights="seeded random",
        weights_sha256="",
        input_size=SOAK_SIZE,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        layer=default_layer(model, SOAK_SIZE),
    )
    return Pipeline(model, Labels(tuple(map(str, range(CLASSES)))), settings, torch.device("cpu"))


def _picture() -> bytes:
    pixels = np.random.default_rng(SEED).integers(0, 256, (*SOAK_SIZE, 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "jpeg")
    return encoded.getvalue()


# ----------------------------------------------------------------------------- report


def machine(device: str) -> dict[str, Any]:
    """Returns where and on what the figures were taken."""
    packages = ("torch", "torchvision", "grad-cam", "torchcam", "captum")
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "cuda": "measured" if device == "cuda" else "not measured",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def table(lines: Sequence[Row], title: str) -> Table:
    """Returns the figures for people to read."""
    drawn = Table("method", "batch", "measured ÷ reference", "median", "quartiles", "fastest", "goal", "", title=title)
    for line in lines:
        ratio, goal = line.ratio, line.goal
        drawn.add_row(
            line.method,
            str(line.batch),
            f"{line.measured} ÷ {line.reference}",
            f"{ratio.median:.3f}",
            f"{ratio.lower:.3f} … {ratio.upper:.3f}",
            f"{ratio.fastest:.3f}",
            "" if goal is None else str(goal),
            "" if goal is None else "met" if goal.met(ratio) else "not met",
        )
    return drawn


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Writes the record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    console.print(f"written: {path}", highlight=False)


def time_methods(options: argparse.Namespace) -> None:
    """Times all contests; prints and records them."""
    before = machine(options.device)
    benchmark = Benchmark(options.arch, options.device)
    lines, record = measure(benchmark, options.rounds)
    title = f"{options.arch} at {benchmark.layer}, {before['device']}, {before['threads']} threads"
    console.print(table(lines, title))
    for name, reason in benchmark.left_out.items():
        console.print(f"left out: {name}: {reason}", highlight=False, markup=False)
    document = {
        **before,
        "load_at_the_end": os.getloadavg()[0],
        "architecture": options.arch,
        "layer": benchmark.layer,
        "left_out": benchmark.left_out,
        "rows": [asdict(line) for line in lines],
        "contests": record,
    }
    write(options.output / f"methods-{options.arch}-{options.device}.json", document)


def watch_memory(options: argparse.Namespace) -> None:
    """Explains so many times; prints and records what became of the memory."""
    result = soak(options.arch, options.soak)
    console.print(
        f"{result.explanations} explanations: {result.before:.1f} MB before, {result.after:.1f} MB after, "
        f"{result.per_thousand:+.3f} MB per 1,000",
        highlight=False,
    )
    write(options.output / f"memory-{options.arch}.json", {**machine("cpu"), **asdict(result)})


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the command's arguments."""
    parser = argparse.ArgumentParser(description="Measures what an explanation costs, here and with the peers.")
    parser.add_argument("--arch", default="resnet18", help="the network, default %(default)s")
    parser.add_argument("--rounds", type=_positive, default=30, help="how often each runs, default %(default)s")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--soak", type=_positive, metavar="N", help="watch the memory over N explanations instead")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder of the records, default %(default)s")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


def main() -> int:
    """Runs the command and returns its exit status."""
    options = parse()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("benchmark_methods.py: not measured: there is no CUDA device here", file=sys.stderr)
        return 1
    try:
        watch_memory(options) if options.soak else time_methods(options)
    except (NetworkError, SplitError) as error:
        print(f"benchmark_methods.py: {error}", file=sys.stderr)
        return 1
    return 0
