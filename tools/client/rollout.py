"""The command `scripts/rollout.py`: add a version beside the current one, compare them, switch, and switch back."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tools import ports
from tools.client.arguments import server_url
from tools.client.client import Client
from tools.client.compare import add_to_report, compare, print_comparison, without_maps
from tools.client.errors import ClientError
from tools.client.files import find_images
from tools.client.html_report import HtmlReport
from tools.server import management
from tools.server.management import ManagementError


def run_versions(options: argparse.Namespace, console: Console) -> int:
    """List versions."""
    for version in management.versions(options.management_url, options.model):
        mark = "  default" if version.default else ""
        console.print(
            f"{options.model} {version.name}  {version.archive}  {version.ready} ready{mark}",
            highlight=False,
            markup=False,
        )
    return 0


def run_add(options: argparse.Namespace, console: Console) -> int:
    """Add a version."""
    model, version = management.add_version(options.management_url, options.archive, options.model_store)
    console.print(f"{model} {version} is loaded at /predictions/{model}/{version}", highlight=False)
    return 0


def run_compare(options: argparse.Namespace, console: Console) -> int:
    """Compare two versions."""
    images = [image.path for image in find_images(options.images, Path("build/none"))]
    quiet = not sys.stderr.isatty()
    progress = track(images, "Comparing", console=Console(stderr=True), transient=True, disable=quiet)
    comparisons = []
    with ExitStack() as stack:
        old = stack.enter_context(Client(options.url, options.model, version=options.old))
        new = stack.enter_context(Client(options.new_url or options.url, options.model, version=options.new))
        report = None if options.report is None else stack.enter_context(HtmlReport(options.report, options.model))
        for image in progress:
            comparison = compare(old, new, image)
            if report is not None:
                add_to_report(report, comparison)
            comparisons.append(without_maps(comparison))
    if report is not None:
        console.print(f"Report written to {options.report}", highlight=False)
    return int(not print_comparison(comparisons, options.agreement, options.cosine, console))


def run_switch(options: argparse.Namespace, console: Console) -> int:
    """Switch the default version."""
    before = management.set_default(options.management_url, options.url, options.model, options.to)
    console.print(
        f"{options.model}: {before} → {options.to}. "
        f"Back: scripts/rollout.py switch --model {options.model} --to {before}"
    )
    return 0


def run_remove(options: argparse.Namespace, console: Console) -> int:
    """Remove a version."""
    management.remove_version(options.management_url, options.model, options.version)
    console.print(
        f"{options.model} {options.version} is unloaded; its archive is still in the model store", highlight=False
    )
    return 0


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Load a new version of a model into a running server, compare, switch, and switch back.",
        epilog="Exit status: 0 done, 1 not done or not close enough, 2 wrong usage.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace, Console], int], text: str, with_model: bool = True
    ) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=text, description=text)
        subparser.set_defaults(run=run)
        subparser.add_argument("--url", type=server_url, default=ports.INFERENCE_URL, help="default: %(default)s")
        subparser.add_argument(
            "--management-url", type=server_url, default=ports.MANAGEMENT_URL, help="default: %(default)s"
        )
        if with_model:
            subparser.add_argument("--model", required=True)
        return subparser

    command("versions", run_versions, "list the versions of a model")
    add = command("add", run_add, "load an archive beside the existing versions", with_model=False)
    add.add_argument("archive", type=Path)
    add.add_argument("--model-store", type=Path, required=True, help="the server's folder of archives")
    comparison = command("compare", run_compare, "compare the answers of two versions to the same images")
    comparison.add_argument("images", nargs="+", type=Path, metavar="IMAGE|FOLDER")
    comparison.add_argument("--old", required=True, metavar="VERSION")
    comparison.add_argument("--new", required=True, metavar="VERSION")
    comparison.add_argument("--new-url", type=server_url, help="server of the new version, if it has its own")
    comparison.add_argument(
        "--report", type=Path, metavar="FILE", help="also write an HTML file: both maps of each image, differing first"
    )
    comparison.add_argument(
        "--agreement", type=float, default=0.9, help="minimum share of equal classes (default: %(default)s)"
    )
    comparison.add_argument(
        "--cosine", type=float, default=0.8, help="minimum mean cosine of the maps (default: %(default)s)"
    )
    switch = command("switch", run_switch, "make a version the default; switching back works the same way")
    switch.add_argument("--to", required=True, metavar="VERSION")
    command("remove", run_remove, "unload a version").add_argument("--version", required=True)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = argument_parser().parse_args(arguments)
    try:
        status: int = options.run(options, Console(soft_wrap=True))
    except (ClientError, ManagementError, OSError) as error:
        print(f"rollout: {error}", file=sys.stderr)
        return 1
    return status
