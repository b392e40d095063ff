"""The command `scripts/build_mar.py`."""

from __future__ import annotations

import argparse
import re
import sys
import typing
from collections.abc import Sequence
from pathlib import Path

from gradcam.engines.engine import EngineError
from gradcam.errors import UnknownName
from gradcam.explain import cam
from gradcam.network.architecture import NetworkError
from gradcam.settings import Activation, Decoding, Engine, SettingsError, Transform
from gradcam.split.parts import SplitError
from tools.archive import summary
from tools.archive.build import Build, build_and_describe, is_current
from tools.archive.calibration import CalibrationError
from tools.archive.packaging import ArchiverError
from tools.archive.precision import PrecisionChoice
from tools.paths import MODEL_STORE

REJECTIONS = (
    *(ArchiverError, CalibrationError, EngineError, NetworkError),
    *(SettingsError, SplitError, UnknownName),
)


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Pack a network with its weights, labels and the handler into an archive that TorchServe serves."
    )
    parser.add_argument(
        "--arch",
        help="a torchvision classifier, efficientnet_lite0, or timm:NAME; not needed with --model-file",
    )
    parser.add_argument(
        "--model-file", type=Path, help="Python file with create_model(num_classes), or with one nn.Module class"
    )
    parser.add_argument(
        "--weights",
        default="default",
        help="default (as published), random (seeded), or a state dict or safetensors file",
    )
    parser.add_argument(
        "--logits",
        metavar="NAME|INDEX",
        help="the output with the logits, if the network returns several (default: the only one of shape (batch, K))",
    )
    parser.add_argument(
        "--activation",
        default="softmax",
        choices=typing.get_args(Activation),
        help="probabilities: softmax over all classes, or sigmoid for each (multi-label; default: %(default)s)",
    )
    parser.add_argument("--labels", type=Path, help="JSON list, index_to_name.json, or text with one name per line")
    parser.add_argument(
        "--layer",
        help="module to explain (default: the last convolution, or a later layer if the classifier sees more)",
    )
    parser.add_argument("--method", default="gradcam", choices=cam.METHODS, help="default: %(default)s")
    parser.add_argument(
        "--transform",
        default="squash",
        choices=typing.get_args(Transform),
        help="squash resizes the whole image, crop takes its center (default: %(default)s)",
    )
    parser.add_argument(
        "--decoding",
        choices=typing.get_args(Decoding),
        help="exact: pixels equal Pillow's; fast: within one level of them, and large JPEGs at a reduced scale "
        "(default: exact in float32, else fast)",
    )
    parser.add_argument(
        "--engine",
        default="auto",
        choices=typing.get_args(Engine),
        help="runs the network up to the layer; auto: OpenVINO on CPUs if it can convert the network, else eager "
        "PyTorch; compile is for GPUs (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        default="float32",
        choices=typing.get_args(PrecisionChoice),
        help="of the network up to the layer; int8 and auto, the fastest that meets the thresholds, need --calibration "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FOLDER",
        help="at least 100 images like those to be served, to calibrate int8 and to compare with float32",
    )
    parser.add_argument(
        "--min-agreement",
        type=float,
        default=0.95,
        metavar="SHARE",
        help="share of held-back images that must have the top class of float32 (default: %(default)s)",
    )
    parser.add_argument(
        "--min-cosine",
        type=float,
        default=0.95,
        metavar="COSINE",
        help="what the cosine of 95 %% of the maps with those of float32 must reach (default: %(default)s)",
    )
    parser.add_argument(
        "--input-size",
        type=_size,
        metavar="SIZE|HEIGHTxWIDTH",
        help="in pixels, such as 224 or 64x96 (default: the architecture's)",
    )
    parser.add_argument(
        "--mean", type=_three_numbers, metavar="R,G,B", help="in the range 0 to 1 (default: the architecture's)"
    )
    parser.add_argument(
        "--std", type=_three_numbers, metavar="R,G,B", help="in the range 0 to 1 (default: the architecture's)"
    )
    parser.add_argument("--name", help="the model's name in URLs (default: the architecture's)")
    parser.add_argument(
        "--version", default="1.0", help="the model's version, if a server has several (default: %(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, default=MODEL_STORE, help="folder for the archive (default: model_store)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="assignments",
        help="a setting or a key of TorchServe, with its value in YAML, a list also as a,b; may be repeated "
        "(scripts/settings.py lists them)",
    )
    parser.add_argument(
        "--if-needed", action="store_true", help="keep an archive that was built from the same options, files and code"
    )
    return parser


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size in pixels; write 224, or 64x96 for height x width")
    height, width = match.groups()
    return int(height), int(width or height)


def _three_numbers(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 3:
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers; write 0.485,0.456,0.406")
    return numbers


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argument_parser()
    arguments_by_name = vars(parser.parse_args(arguments))
    if_needed = arguments_by_name.pop("if_needed")
    if arguments_by_name["arch"] is None:
        if arguments_by_name["model_file"] is None:
            parser.error("one of --arch and --model-file is required")
        arguments_by_name["arch"] = arguments_by_name["model_file"].stem
    arguments_by_name["assignments"] = tuple(arguments_by_name["assignments"])
    try:
        options = Build(**arguments_by_name)
        if if_needed and is_current(options):
            print(f"{summary.title(options.archive)}, up to date")
            print(summary.next_commands(options.archive, options.model))
        else:
            print(summary.text(build_and_describe(options)))
    except (
        ArchiverError,
        CalibrationError,
        EngineError,
        NetworkError,
        SettingsError,
        SplitError,
        UnknownName,
    ) as error:
        print(f"build_mar: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"build_mar: the archive cannot be written: {error}", file=sys.stderr)
        return 1
    return 0
