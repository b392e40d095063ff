"""The command `scripts/predict.py`: explain image files, print a table, write overlays.

paths → find_images → ImageFile → explained.explain_all → Result → print_table, or sinks: report, bundle, JSON, CSV

An `ImageError` concerns one image and becomes its row of the table; `ServerUnavailable` and `OptionRejected`, which
every image would meet, end the run.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import track

from tools.client.arguments import add_header_argument, add_request_arguments, request_options, server_url
from tools.client.client import Client
from tools.client.endpoint import DEFAULT_MODEL
from tools.client.errors import ClientError, ImageError, ModelNotFound, OptionRejected, ServerUnavailable
from tools.client.expected import Expected, ExpectedError
from tools.client.explained import IN_FLIGHT, Result, explain_all, without_maps
from tools.client.files import find_images
from tools.client.html_report import HtmlReport
from tools.client.records import CsvRows, JsonLines
from tools.client.table import print_table, printable
from tools.ports import INFERENCE_URL
from tools.server import management
from tools.server.management import ManagementError
from tools.server.signals import INTERRUPTED

OUTPUT = Path("build/overlays")


class Sink(Protocol):
    """Receives each result, with maps."""

    def add(self, result: Result) -> None:
        """Take an image's result."""


@dataclass(frozen=True)
class Run:
    """The results of a run, without maps, and what ended it before all images had one."""

    results: tuple[Result, ...]
    failure: ServerUnavailable | OptionRejected | None

    @property
    def overlays(self) -> tuple[Path, ...]:
        """The files that were written."""
        return tuple(path for result in self.results for path in result.overlays)

    @property
    def status(self) -> int:
        """The exit status: 0, or 1 if an image failed or the run ended early."""
        return int(bool(self.failure) or any(isinstance(result.answer, ImageError) for result in self.results))


@dataclass(frozen=True)
class ReportSink:
    """Adds results to an HTML report."""

    report: HtmlReport

    def add(self, result: Result) -> None:
        """Add an image; one that Pillow cannot open for a thumbnail becomes an error."""
        name = str(result.image.path)
        try:
            if isinstance(result.answer, ImageError):
                raise result.answer
            document = result.answer.document
            extra = {} if result.expected is None else {"expected": result.expected}
            self.report.add(name, result.image.path, {**document, **extra})
        except ImageError as error:
            self.report.add_error(name, str(error))
        except OSError as error:
            self.report.add_error(name, f"explained, but no thumbnail could be made: {error}")


def run(answers: Iterator[Result], images: int, sinks: Sequence[Sink] = ()) -> Run:
    """Hand each result to the sinks, with a progress bar over so many images."""
    quiet = images == 1 or not sys.stderr.isatty()
    progress = track(answers, "Explaining", images, console=Console(stderr=True), transient=True, disable=quiet)
    results: list[Result] = []
    failure = None
    try:
        for result in progress:
            for sink in sinks:
                sink.add(result)
            results.append(without_maps(result))
    except (ServerUnavailable, OptionRejected) as error:
        failure = error
    return Run(tuple(results), failure)


def print_run(done: Run, output: Path, *, table: bool = True) -> None:
    """Print the table, where the overlays are, and what ended the run; without the table, on standard error only."""
    overlays = done.overlays
    if done.results and table:
        print_table([(result.image.path, result.answer) for result in done.results])
        if known := [result for result in done.results if result.expected is not None]:
            print(f"As expected: {sum(result.agrees for result in known)} of {len(known)} images")
    if overlays:
        place = (
            f"Overlay written to {overlays[0]}"
            if len(overlays) == 1
            else f"Overlays written to {output}: {len(overlays)}"
        )
        print(printable(place), file=sys.stdout if table else sys.stderr)
    if done.failure:
        print(f"{printable(str(done.failure))}. {_remedy(done.failure)}", file=sys.stderr)


def _remedy(error: ClientError) -> str:
    if isinstance(error, OptionRejected):
        return "Change the option: every image is sent with it."
    if isinstance(error, ModelNotFound):
        return "Name another with --model."
    return "Start one with `make serve`, or name yours with --url."


def describe(url: str | None, client: Client) -> Mapping[str, object] | None:
    """Return the server's description of the model for a bundle; None, and a message, if it cannot be had."""
    if url is None:
        parts = urlsplit(client.url)
        url = f"{parts.scheme}://{parts.hostname}:{(parts.port or 80) + 1}"
    try:
        return management.describe(url, client.model, client.version)
    except ManagementError as error:
        print(f"The bundle lacks the model's settings: {printable(str(error))}; see --management-url", file=sys.stderr)
        return None


@contextmanager
def exit_on_interrupt() -> Iterator[None]:
    """End the process at once on Ctrl-C; KeyboardInterrupt would wait for requests to a server that hangs."""
    before = signal.signal(signal.SIGINT, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _exit(*_: object) -> NoReturn:
    Console(stderr=True).show_cursor()  # the progress bar hides it
    os._exit(INTERRUPTED)


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Classify images on a server and write overlays that show the evidence for a class.",
        epilog="Exit status: 0 all images answered, 1 some failed or the run ended early, 2 wrong usage.",
    )
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="IMAGE|FOLDER", help="images, and folders to search for images"
    )
    parser.add_argument(
        "--url", type=server_url, default=INFERENCE_URL, help="address of the server (default: %(default)s)"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name of the model (default: %(default)s)")
    parser.add_argument("--version", help="version of the model (default: the server's)")
    add_header_argument(parser)
    add_request_arguments(parser)
    folders = parser.add_mutually_exclusive_group()
    folders.add_argument("--output", type=Path, metavar="DIR", help=f"folder for overlays (default: {OUTPUT})")
    folders.add_argument(
        "--bundle",
        type=Path,
        metavar="DIR",
        help="folder for overlays, maps (.npy) and a manifest.json for scripts/reproduce.py",
    )
    parser.add_argument(
        "--management-url", type=server_url, help="of the server, for --bundle (default: the port after that of --url)"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write one self-contained HTML file")
    parser.add_argument(
        "--expected",
        type=Path,
        metavar="CSV",
        help="file with the columns file and label: where the network predicts another class, explain both",
    )
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print a JSON object per image instead of the table")
    formats.add_argument("--csv", action="store_true", help="print a CSV row per class instead of the table")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    # Silence urllib3's warnings about retries.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    parser = argument_parser()
    parsed = parser.parse_args(arguments)
    options = request_options(parsed)
    if parsed.expected is not None and parsed.bundle is not None:
        parser.error("--expected does not go with --bundle, whose images must all have the same options")
    output = parsed.output or parsed.bundle or OUTPUT
    with ExitStack() as stack:
        stack.enter_context(exit_on_interrupt())
        client = stack.enter_context(
            Client(parsed.url, parsed.model, version=parsed.version, headers=dict(parsed.header), connections=IN_FLIGHT)
        )
        sinks: list[Sink] = [JsonLines(sys.stdout)] if parsed.json else [CsvRows(sys.stdout)] if parsed.csv else []
        bundle = None
        try:
            expected = None if parsed.expected is None else Expected.read(parsed.expected)
            images = find_images(parsed.inputs, output)
            output.mkdir(parents=True, exist_ok=True)
            if parsed.report is not None:
                sinks.append(ReportSink(stack.enter_context(HtmlReport(parsed.report, parsed.model))))
            if parsed.bundle is not None:
                from tools.client.bundle import Bundle  # noqa: PLC0415  numpy takes time to load

                bundle = Bundle(output, client, options, describe(parsed.management_url, client))
                sinks.append(bundle)
        except (OSError, ExpectedError) as error:
            parser.error(str(error))
        table = not (parsed.json or parsed.csv)
        done = run(explain_all(client, images, options, output, expected), len(images), sinks)
        print_run(done, output, table=table)
        messages = sys.stdout if table else sys.stderr
        if bundle is not None and done.failure is None:
            print(f"Bundle written: {bundle.finish()}", file=messages)
    if parsed.report is not None:
        print(f"Report written to {parsed.report}", file=messages)
    return done.status
