"""The command `scripts/predict.py`: explain image files, print a table, write overlays.

paths → find_images → ImageFile → Client.explain → Answer → save_overlays → Result → print_table, HtmlReport

An `ImageError` concerns one image and becomes its row of the table; `ServerUnavailable` ends the run.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.progress import track

from tools.client.answers import Answer
from tools.client.arguments import class_count, server_url, target_list
from tools.client.client import DEFAULT_MODEL, Client, OptionValue
from tools.client.errors import ImageError, ModelNotFound, ServerUnavailable
from tools.client.files import ImageFile, find_images
from tools.client.html_report import HtmlReport
from tools.client.table import print_table, printable
from tools.ports import INFERENCE_URL
from tools.server.signals import INTERRUPTED

OUTPUT = Path("build/overlays")
# Several requests at once, so that the server can form batches.
IN_FLIGHT = 8
LABEL_CHARACTERS = 40


@dataclass(frozen=True)
class Result:
    """The result for one image: its answer, without maps and overlays, or the error, and the overlays' files."""

    image: ImageFile
    answer: Answer | ImageError
    overlays: tuple[Path, ...] = ()


def explain_all(
    client: Client, images: Sequence[ImageFile], options: Mapping[str, OptionValue], output: Path
) -> Iterator[Result]:
    """Explain images concurrently, write their overlays, and yield results in the images' order.

    Raises:
        ServerUnavailable: as in `Client.explain`; waiting images are dropped.
    """
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        yield from pool.map(partial(explain_file, client, options, output), images)


def explain_file(client: Client, options: Mapping[str, OptionValue], output: Path, image: ImageFile) -> Result:
    """Explain one image and write its overlays."""
    try:
        try:
            content = image.path.read_bytes()
        except OSError as error:
            raise ImageError(f"cannot be read: {error.strerror}") from error
        answer = client.explain(content, overlay="jpeg", **options)
        overlays = save_overlays(answer, output, image.name)
    except ImageError as error:
        return Result(image, error)
    return Result(image, without_overlays(answer), tuple(overlays))


def save_overlays(answer: Answer, output: Path, name: str) -> list[Path]:
    """Write an answer's overlays as `<name>.<index>-<label>.jpg`.

    Raises:
        ImageError: a file cannot be written.
    """
    written = []
    for explanation in answer.explanations:
        assert explanation.overlay is not None
        path = output / f"{name}.{explanation.index}-{slug(explanation.label)}.jpg"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(explanation.overlay)
        except OSError as error:
            raise ImageError(f"overlay not written to {path}: {error.strerror}") from error
        written.append(path)
    return written


def slug(label: str) -> str:
    """Return a label fit for a file name: letters and digits of any script, joined by hyphens."""
    return re.sub(r"\W+", "-", label.lower())[:LABEL_CHARACTERS].strip("-")


def without_overlays(answer: Answer) -> Answer:
    """Drop the overlays' bytes: those of a large folder would fill the memory before the table is printed."""
    return replace(answer, explanations=tuple(replace(entry, overlay=None) for entry in answer.explanations))


def without_maps(result: Result) -> Result:
    """Drop what only a report needs: maps of a large folder would fill the memory."""
    if isinstance(result.answer, ImageError):
        return result
    explanations = tuple(replace(entry, heatmap=None) for entry in result.answer.explanations)
    return replace(result, answer=replace(result.answer, explanations=explanations, document={}))


def add_to_report(report: HtmlReport, result: Result) -> None:
    """Add an image to the report; one that Pillow cannot open for a thumbnail becomes an error."""
    name = str(result.image.path)
    try:
        if isinstance(result.answer, ImageError):
            raise result.answer
        report.add(name, result.image.path, result.answer.document)
    except ImageError as error:
        report.add_error(name, str(error))
    except OSError as error:
        report.add_error(name, f"explained, but no thumbnail could be made: {error}")


def run(
    client: Client,
    images: Sequence[ImageFile],
    options: Mapping[str, OptionValue],
    output: Path,
    report: HtmlReport | None = None,
) -> int:
    """Explain images, print the table, and return the exit status."""
    answers = explain_all(client, images, options, output)
    quiet = len(images) == 1 or not sys.stderr.isatty()
    progress = track(answers, "Explaining", len(images), console=Console(stderr=True), transient=True, disable=quiet)
    results: list[Result] = []
    failure: ServerUnavailable | None = None
    try:
        for result in progress:
            if report is not None:
                add_to_report(report, result)
            results.append(without_maps(result))
    except ServerUnavailable as error:
        failure = error
    if results:
        print_table([(result.image.path, result.answer) for result in results])
        print(f"Overlays written to {output}: {sum(len(result.overlays) for result in results)}")
    if failure:
        print(f"{printable(str(failure))}. {_remedy(failure)}", file=sys.stderr)
    return int(bool(failure) or any(isinstance(result.answer, ImageError) for result in results))


def _remedy(error: ServerUnavailable) -> str:
    if isinstance(error, ModelNotFound):
        return "Name another with --model."
    return "Start one with `make serve`, or name yours with --url."


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
        epilog="Exit status: 0 all images answered, 1 some failed or no server, 2 wrong usage.",
    )
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="IMAGE|FOLDER", help="images, and folders to search for images"
    )
    parser.add_argument(
        "--url", type=server_url, default=INFERENCE_URL, help="address of the server (default: %(default)s)"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name of the model (default: %(default)s)")
    parser.add_argument(
        "--targets",
        type=target_list,
        metavar="CLASS,…",
        help="classes to explain, as index or label (default: the predicted one)",
    )
    parser.add_argument("--topk", type=class_count, metavar="N", help="number of classes to list (default: 5)")
    parser.add_argument("--method", help="explanation method (default: the model's)")
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, metavar="DIR", help="folder for overlays (default: %(default)s)"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write one self-contained HTML file")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    # Silence urllib3's warnings about retries.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    parser = argument_parser()
    parsed = parser.parse_args(arguments)
    options = {"targets": parsed.targets, "topk": parsed.topk, "method": parsed.method}
    with ExitStack() as stack:
        stack.enter_context(exit_on_interrupt())
        report = None
        try:
            images = find_images(parsed.inputs, parsed.output)
            parsed.output.mkdir(parents=True, exist_ok=True)
            if parsed.report is not None:
                report = stack.enter_context(HtmlReport(parsed.report, parsed.model))
        except OSError as error:
            parser.error(str(error))
        client = stack.enter_context(Client(parsed.url, parsed.model, connections=IN_FLIGHT))
        status = run(client, images, options, parsed.output, report)
    if report is not None:
        print(f"Report written to {parsed.report}")
    return status
