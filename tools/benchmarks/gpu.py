"""Measure a GPU: images per second with maps and without, in every engine and precision, and decoding of JPEGs.

Everything runs in this process, so the numbers are those of the network and the maps without a server. It takes less
than ten minutes, most of which torch.compile needs.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gradcam.engines import engine as engines
from gradcam.engines.engine import EngineError
from gradcam.explain.explainer import Explainer, ForwardPass, Pair
from gradcam.images import decoding
from gradcam.images.geometry import CropGeometry
from gradcam.images.model_input import model_input
from gradcam.images.nvjpeg import Decoder
from gradcam.network import architecture
from gradcam.network.target_layer import default_layer
from gradcam.settings import Engine, Precision, Settings
from gradcam.split.parts import Split
from gradcam.split.splitter import split
from gradcam.split.verification import random_images
from tools.benchmarks.measurement import DEFAULT_SIZE, photographs
from tools.paths import BUILD

OUTPUT = BUILD / "benchmark" / "gpu.json"
BATCHES = (1, 8, 32, 64, 128, 256)
ENGINES: tuple[Engine, ...] = ("eager", "compile")
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "bfloat16")
SIZE = (224, 224)
CLASSES = 1000
# Of each measurement, after two runs that compile and record.
SECONDS = 1.0
DECODED_BATCH = 32

console = Console()


@dataclass(frozen=True)
class Speed:
    """Images per second of one engine in one precision."""

    engine: str
    precision: str
    batch: int
    forward: float
    """Without maps."""
    maps: float
    """With a Grad-CAM map of the top class each."""


def images_per_second(run: Callable[[], object], images: int, seconds: float) -> float:
    """Return the images per second of the median run, over at least three runs after two others."""
    for _ in range(2):
        _finish(run)
    durations: list[float] = []
    end = time.perf_counter() + seconds
    while len(durations) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        _finish(run)
        durations.append(time.perf_counter() - start)
    return images / statistics.median(durations)


def _finish(run: Callable[[], object]) -> None:
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def forward(parts: Split, images: Tensor) -> ForwardPass:
    """Run trunk and head without gradients."""
    with torch.inference_mode():
        features = parts.features(images).float()
        return ForwardPass(parts, images, features, parts.logits(features))


def with_maps(parts: Split, images: Tensor, explainer: Explainer) -> Tensor:
    """Return the maps (B, h, w) of the top classes."""
    completed = forward(parts, images)
    classes = completed.logits.argmax(dim=1).tolist()
    pairs = [Pair(row, target, "gradcam") for row, target in enumerate(classes)]
    maps, _ = explainer.maps(completed, pairs, math.inf)
    return maps.heatmaps


def speeds(arch: str, device: torch.device, batches: Sequence[int], seconds: float) -> list[Speed]:
    """Measure all engines and precisions; one that cannot run is reported and left out."""
    layer = default_layer(architecture.build(arch, CLASSES), SIZE)
    network = architecture.build(arch, CLASSES).to(device).to(memory_format=torch.channels_last)
    parts = split(network, layer, SIZE)
    explainer = Explainer(Settings.max_replay_bytes)
    results = []
    for engine in ENGINES:
        for precision in PRECISIONS:
            try:
                fast = engines.accelerate(parts, engine, precision, random_images(network, SIZE, 2))
            except EngineError as error:
                console.print(f"left out: {engine}, {precision}: {error}", highlight=False, markup=False)
                continue
            for batch in batches:
                images = torch.randn(batch, 3, *SIZE, device=device).to(memory_format=torch.channels_last)
                alone = images_per_second(partial(forward, fast, images), batch, seconds)
                mapped = images_per_second(partial(with_maps, fast, images, explainer), batch, seconds)
                results.append(Speed(engine, precision, batch, alone, mapped))
    return results


def decoding_speeds(device: torch.device, settings: Settings, seconds: float) -> dict[str, float]:
    """Return images per second of Pillow in one thread, and of nvJPEG if it is there, for 720 × 720."""
    images = [photographs(DEFAULT_SIZE)[number % 3] for number in range(DECODED_BATCH)]
    results = {"Pillow": images_per_second(partial(_decode_with_pillow, images, settings), DECODED_BATCH, seconds)}
    decoder = Decoder.load(settings, device)
    if decoder is not None:
        files = dict(enumerate(images))
        results["nvJPEG"] = images_per_second(lambda: decoder.decode(files, math.inf), DECODED_BATCH, seconds)
    return results


def _decode_with_pillow(images: Sequence[bytes], settings: Settings) -> list[Tensor]:
    prepared = []
    for image in images:
        decoded = decoding.decode(image, settings, full_resolution=False)
        geometry = CropGeometry.of(decoded.width, decoded.height, settings)
        prepared.append(model_input(decoded.image, geometry, settings.decoding))
    return prepared


def show(results: Sequence[Speed], decoded: dict[str, float]) -> None:
    """Print the tables."""
    table = Table(title="images per second")
    for column in ("engine", "precision", "batch", "forward pass", "with maps", "maps ÷ forward"):
        table.add_column(column)
    for entry in results:
        ratio = f"{entry.maps / entry.forward:.2f}"
        table.add_row(
            entry.engine, entry.precision, str(entry.batch), f"{entry.forward:.0f}", f"{entry.maps:.0f}", ratio
        )
    console.print(table)
    for name, rate in decoded.items():
        console.print(f"decoding 720 × 720 with {name}: {rate:.0f} images per second", highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--arch", default="resnet18", help="the network (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("benchmark_gpu: not measured: there is no CUDA device", file=sys.stderr)
        return 1
    device = torch.device("cuda")
    results = speeds(options.arch, device, BATCHES, SECONDS)
    decoded = decoding_speeds(device, default_settings(options.arch), SECONDS)
    show(results, decoded)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "device": torch.cuda.get_device_name(),
        "speeds": [asdict(entry) for entry in results],
        "decoding": decoded,
    }
    OUTPUT.write_text(json.dumps(record, indent=1))
    console.print(f"written: {OUTPUT}", highlight=False)
    return 0


def default_settings(arch: str) -> Settings:
    """Return settings that decode as a server with `decoding: fast` does."""
    return Settings(
        architecture=arch,
        num_classes=CLASSES,
        weights="random",
        weights_sha256="",
        input_size=SIZE,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        layer="",
        decoding="fast",
    )
