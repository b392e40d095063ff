"""Which architectures can be exported: the command `scripts/export_coverage.py`.

Each architecture gets seeded weights and a small input, is exported in both file formats, and verified. Rows are kept
in a file, so that a run that was interrupted goes on where it ended.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torchvision
from torch import nn

from gradcam.network import architecture as architectures
from gradcam.network.architecture import TIMM, NetworkError
from gradcam.network.labels import Labels
from gradcam.network.target_layer import default_layer
from gradcam.pipeline import Pipeline
from gradcam.settings import Settings
from gradcam.split.parts import SplitError
from tools.export.formats import convert_to_openvino, write_onnx
from tools.export.graph import Explained, explain, trace
from tools.export.methods import ExportError
from tools.export.runtimes import LOADERS
from tools.export.verification import TOLERANCES, random_images, verify

OUTPUT = Path("build/export-coverage.jsonl")
CLASSES = 10
# Sides of the input to try, in pixels, until the network accepts one and has a layer to explain.
SIDES = (64, 128, 224)
EXPORTED = "yes"
TIMM_SAMPLES = (
    "convnextv2_atto",
    "deit_tiny_patch16_224",
    "efficientformer_l1",
    "ghostnet_100",
    "mixer_s32_224",
    "mobilevit_xxs",
    "pvt_v2_b0",
    "regnety_002",
    "resnet10t",
    "vit_tiny_patch16_224",
)


@dataclasses.dataclass(frozen=True)
class Row:
    """What became of one architecture."""

    architecture: str
    side: int
    """Of its input, in pixels."""
    layer: str
    onnx: str
    """`EXPORTED`, or the reason why not."""
    openvino: str

    def markdown(self) -> str:
        """Return the row of a Markdown table."""
        reasons = (reason.replace("|", "\\|") for reason in (self.onnx, self.openvino))
        return f"| `{self.architecture}` | `{self.layer}` | {' | '.join(reasons)} |"


def examine(architecture: str) -> Row:
    """Export an architecture in both file formats, and verify both files."""
    try:
        network, layer, side = _prepare(architecture)
        explained = _explained(network, layer, side, architecture)
        program = trace(explained)
    except (ExportError, NetworkError, SplitError) as error:
        return Row(architecture, 0, "", *[_short(error)] * 2)
    reasons = dict.fromkeys(LOADERS, "")
    images = random_images((side, side))
    with tempfile.TemporaryDirectory() as folder:
        paths = {"onnx": Path(folder) / "network.onnx", "openvino": Path(folder) / "network.xml"}
        for name, load in LOADERS.items():
            try:
                if name == "onnx":
                    write_onnx(program, paths["onnx"], {})
                elif not paths["onnx"].exists():
                    raise ExportError(reasons["onnx"])
                else:
                    convert_to_openvino(paths["onnx"], paths["openvino"], {})
                verify(load(paths[name]), explained, images, TOLERANCES["float32"])
                reasons[name] = EXPORTED
            except Exception as error:  # converters and runtimes may raise anything
                reasons[name] = _short(error)
    return Row(architecture, side, layer, reasons["onnx"], reasons["openvino"])


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _prepare(architecture: str) -> tuple[nn.Module, str, int]:
    """Return a network with seeded weights, its default layer, and the side of its input.

    Raises:
        NetworkError: it accepts none of `SIDES`.
    """
    reason = ""
    for side in SIDES:
        try:
            network = _build(architecture, side)
            _seed(network)
            return network, default_layer(network, (side, side)), side
        except Exception as error:  # a network may raise anything for an input that is too small
            reason = _short(error)
    raise NetworkError(f"accepts no input of {SIDES} pixels: {reason}")


def _build(architecture: str, side: int) -> nn.Module:
    """Build a network; one with position embeddings is built for the side, if it lets one choose."""
    if architecture.startswith("vit_"):
        patch = int(architecture.rsplit("_", 1)[1])
        if side % patch:
            raise NetworkError(f"needs a multiple of {patch} pixels")
        network: nn.Module = torchvision.models.get_model(
            architecture, weights=None, num_classes=CLASSES, image_size=side
        )
        return network.eval().requires_grad_(False)
    return architectures.build(architecture, CLASSES)


def _seed(network: nn.Module) -> None:
    """Fill in seeded weights that keep the scale of activations from layer to layer."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            parameter.uniform_(-1, 1, generator=generator).mul_((3 / max(parameter[0].numel(), 1)) ** 0.5)
        else:
            parameter.uniform_(0, 0.2, generator=generator).add_(0.9 if name.endswith("weight") else -0.1)


def _explained(network: nn.Module, layer: str, side: int, architecture: str) -> Explained:
    settings = Settings(
        architecture=architecture,
        num_classes=CLASSES,
        weights="seeded",
        weights_sha256="",
        input_size=(side, side),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        layer=layer,
        engine="eager",
    )
    labels = Labels(tuple(f"class {index}" for index in range(CLASSES)))
    pipeline = Pipeline(network, labels, settings, torch.device("cpu"))
    return explain(pipeline, layer, "gradcam")


def run(names: Sequence[str], output: Path) -> Iterator[Row]:
    """Examine architectures that the file does not list yet, and yield the rows of all."""
    known: dict[str, Row] = {}
    if output.exists():
        known = {row["architecture"]: Row(**row) for row in map(json.loads, output.read_text().splitlines())}
    output.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name not in known:
            known[name] = examine(name)
            with output.open("a") as file:
                file.write(json.dumps(dataclasses.asdict(known[name])) + "\n")
            gc.collect()
        yield known[name]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    samples = [f"{TIMM}{name}" for name in TIMM_SAMPLES]
    everything = [*torchvision.models.list_models(module=torchvision.models), *samples]
    parser = argparse.ArgumentParser(description="Export every architecture with seeded weights; print a table.")
    parser.add_argument("architectures", nargs="*", default=everything, metavar="NAME", help="(default: all)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="file of the rows (default: %(default)s)")
    options = parser.parse_args(arguments)
    print("| architecture | layer | ONNX | OpenVINO |\n|---|---|---|---|")
    rows = []
    for row in run(options.architectures, options.output):
        rows.append(row)
        print(row.markdown(), flush=True)
    complete = sum(row.onnx == row.openvino == EXPORTED for row in rows)
    print(f"{complete} of {len(rows)} in both formats", file=sys.stderr)
    return 0
