"""The command `scripts/build_mar.py`."""

from __future__ import annotations

import argparse
import sys
import typing
from collections.abc import Sequence
from pathlib import Path

from gradcam.engines.engine import EngineError
from gradcam.errors import UnknownName
from gradcam.explain import cam
from gradcam.network.architecture import NetworkError
from gradcam.settings import Decoding, Engine, Precision, SettingsError, Transform
from gradcam.split.parts import SplitError
from tools.archive.build import Build, build, build_if_needed
from tools.archive.packaging import ArchiverError
from tools.paths import MODEL_STORE


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Pack a network with its weights, labels and the handler into an archive that TorchServe serves."
    )
    parser.add_argument(
        "--arch",
        required=True,
        help="a torchvision classifier, efficientnet_lite0, timm:NAME, or any name with --model-file",
    )
    parser.add_argument(
        "--model-file", type=Path, help="Python file with create_model(num_classes), or with one nn.Module class"
    )
    parser.add_argument(
        "--weights",
        default="default",
        help="default (as published), random (seeded), or a state dict or safetensors file",
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
        default="exact",
        choices=typing.get_args(Decoding),
        help="exact: pixels equal Pillow's; fast: within one level of them, and large JPEGs at a reduced scale "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--engine",
        default="auto",
        choices=typing.get_args(Engine),
        help="runs the network up to the layer; auto: OpenVINO if the worker has it, else eager PyTorch "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--precision", default="float32", choices=typing.get_args(Precision), help="default: %(default)s"
    )
    parser.add_argument("--input-size", type=_size, help="pixels per side (default: the architecture's)")
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
        "--if-needed", action="store_true", help="keep an archive that was built from the same options, files and code"
    )
    return parser


def _size(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of pixels; write 224")
    return int(text)


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
    options = vars(argument_parser().parse_args(arguments))
    make = build_if_needed if options.pop("if_needed") else build
    try:
        archive = make(Build(**options))
    except (ArchiverError, EngineError, NetworkError, SettingsError, SplitError, UnknownName) as error:
        print(f"build_mar: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"build_mar: the archive cannot be written: {error}", file=sys.stderr)
        return 1
    print(f"{archive} ({archive.stat().st_size / 1e6:.0f} MB)")
    return 0
