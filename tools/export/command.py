"""The command `scripts/export.py`: archive → trace → file → verification → the output folder."""

from __future__ import annotations

import argparse
import sys
import typing
from collections.abc import Sequence
from pathlib import Path

import torch

from gradcam.errors import RequestError
from tools.archive.loading import ArchiveError, load
from tools.export import graph, repository
from tools.export.metadata import NO_LICENSE, metadata
from tools.export.methods import EXPORTED, ExportError, check_method
from tools.export.output import all_or_nothing
from tools.export.verification import TOLERANCES, prepared_images, random_images, verify
from tools.server.signals import INTERRUPTED

# Without the packages of the group `export`, only `--help` works.
FILE_FORMATS = ("onnx", "openvino")
FORMATS = (*FILE_FORMATS, *repository.LAYOUTS)
INSTALL = "python3 scripts/environment.py runtime demo export"


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Export an archive's network with its explanation as one graph, and verify it.",
        epilog="Exit status: 0 written; 1 cannot be exported, or differs from the archive; 2 wrong usage.",
    )
    parser.add_argument("archive", type=Path, help="the archive, a .mar file")
    parser.add_argument("--format", required=True, choices=FORMATS, help="what to write")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the folder to write to")
    parser.add_argument("--method", help=f"one of {', '.join(EXPORTED)} (default: the model's)")
    parser.add_argument("--layer", metavar="NAME", help="the layer to explain (default: the model's)")
    parser.add_argument(
        "--precision",
        choices=typing.get_args(graph.Precision),
        default="float32",
        help="of the network up to the layer; the rest and the maps are float32 (default: %(default)s)",
    )
    parser.add_argument(
        "--images", nargs="+", type=Path, default=[], metavar="FILE", help="also verify the graph on these images"
    )
    parser.add_argument(
        "--license", default=NO_LICENSE, metavar="TEXT", help="license of the weights, for the metadata"
    )
    parser.add_argument(
        "--instances",
        choices=tuple(repository.INSTANCES),
        default="cpu",
        help="where Triton runs the model (default: %(default)s)",
    )
    return parser


def export(options: argparse.Namespace) -> list[Path]:
    """Export an archive, and return the written files.

    Raises:
        ArchiveError, ExportError, RequestError: it cannot be exported, or the result differs from the archive.
        OSError: the output cannot be written.
    """
    try:
        from tools.export import formats, runtimes  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        raise ExportError(f"{missing.name} is missing; run: {INSTALL}") from missing
    # The graph is compared with the plain network, not with another engine's rounding.
    pipeline = load(options.archive, torch.device("cpu"), engine="eager", precision="float32")
    method = options.method or pipeline.settings.method
    check_method(method)
    explained = graph.explain(pipeline, options.layer or pipeline.settings.layer, method)
    layout = repository.LAYOUTS.get(options.format)
    file_format = layout.file_format if layout else options.format
    suffix, write = formats.WRITERS[file_format]
    images = random_images(pipeline.settings.input_size)
    if options.images:
        images = torch.cat([prepared_images(pipeline, options.images), images])
    program = graph.trace(explained, options.precision)
    name, entries = pipeline.served.name, metadata(explained, options.archive, options.precision, options.license)
    with all_or_nothing(options.output) as partial:
        folder, stem = (partial, name) if layout is None else (partial / name / "1", layout.file_name)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{stem}{suffix}"
        write(program, path, entries)
        verify(runtimes.LOADERS[file_format](path), explained, images, TOLERANCES[options.precision])
        if layout is not None:
            layout.write(partial, repository.Model.of(explained, options.instances))
        written = sorted(entry.relative_to(partial) for entry in partial.rglob("*") if entry.is_file())
    return [options.output / path for path in written]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = argument_parser().parse_args(arguments)
    try:
        for path in export(options):
            print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    except (ArchiveError, ExportError, RequestError, OSError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
