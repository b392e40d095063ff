"""Sends pictures to the server, prints what it sees in them and writes what it looked at as overlays.

paths → find_pictures → Picture → explain → Answer → save_overlays → Result → print_table, Report

What is wrong with one picture is a `PictureError` and becomes that picture's row in the table; what makes
every further request pointless is a `ServerError` and ends the run.
"""

from __future__ import annotations

import argparse
import base64
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text
from urllib3.exceptions import MaxRetryError, NewConnectionError
from urllib3.util import Retry

from tools.client.report import Report

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
OUTPUT = Path("build/overlays")

# Several requests at once, so that the server has something to batch.
IN_FLIGHT = 8
CONNECT_SECONDS, ANSWER_SECONDS = 5, 120
# Nothing on the server changes with a request, so it may be sent again. 503 is TorchServe's "queue full" and "no worker
# yet", 500 and 507 are "Worker died.", with whatever else was in its batch, and a server that goes away breaks
# connections: all of these pass, a dead worker within 15 s. Whatever else fails would fail again.
RETRIES = Retry(
    total=None,
    connect=0,
    read=1,
    status=6,
    status_forcelist={500, 503, 507},
    allowed_methods={"POST"},
    backoff_factor=0.5,
    raise_on_status=False,
)

BAR_CELLS = 10
LABEL_CHARACTERS = 40
# Of a pipe or a file, which have no width of their own: wide enough not to break file names.
PIPE_COLUMNS = 160


class PictureError(Exception):
    """One picture has no answer; the others may have theirs."""


class ServerError(Exception):
    """The server cannot answer for any picture: it is not there, or does not have the model."""


@dataclass(frozen=True)
class Service:
    """A model on a server."""

    url: str = "http://127.0.0.1:8080"
    model: str = "resnet18"

    @property
    def endpoint(self) -> str:
        """The address that takes pictures."""
        return f"{self.url.rstrip('/')}/predictions/{quote(self.model, safe='')}"


@dataclass(frozen=True)
class Options:
    """What to ask of the model; `None` leaves the choice to the server."""

    targets: str | None = None
    topk: int | None = None
    method: str | None = None

    def form(self) -> dict[str, str]:
        """The options as form fields."""
        chosen = {name: str(value) for name, value in vars(self).items() if value is not None}
        return {"overlay": "jpeg", **chosen}


@dataclass(frozen=True)
class Prediction:
    """A class and how probable the network holds it to be."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True)
class Explanation(Prediction):
    """Where in the picture the evidence for a class lies."""

    peak: tuple[int, int] | None
    """Pixel (x, y) with the strongest evidence; `None` where nothing speaks for the class."""
    overlay: bytes
    """The coloured picture, a JPEG file."""


@dataclass(frozen=True)
class Answer:
    """What the server says about one picture."""

    predictions: tuple[Prediction, ...]
    explanations: tuple[Explanation, ...]
    method: str
    layer: str
    document: Mapping[str, Any]
    """What a report keeps of it: all but the overlays, in the server's words."""


@dataclass(frozen=True)
class Picture:
    """A file to send, and the relative path that its overlays' names begin with."""

    path: Path
    name: str


@dataclass(frozen=True)
class Result:
    """One picture's row: its answer, without the overlays' bytes, or what stood in the way of one."""

    picture: Picture
    answer: Answer | PictureError
    overlays: tuple[Path, ...] = ()


def find_pictures(inputs: Sequence[Path], output: Path) -> list[Picture]:
    """Collects files and the pictures in folders, each once, in order.

    Args:
        inputs: files, taken whatever they are called, and folders, searched with all that is in them.
        output: where overlays go; a folder that contains it is searched without it.

    Raises:
        FileNotFoundError: a path does not exist, or a folder holds no picture.
    """
    unique: dict[Path, Path] = {}
    for given in inputs:
        for path in walk(given, output) if given.is_dir() else [existing(given)]:
            unique.setdefault(absolute(path), path)
    names = overlay_names(list(unique))
    return [Picture(path, name) for path, name in zip(unique.values(), names, strict=True)]


def existing(path: Path) -> Path:
    """Returns the path, if there is something."""
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder: {path}")
    return path


def walk(folder: Path, output: Path) -> list[Path]:
    """Lists the pictures below a folder, sorted, without the overlays of earlier runs."""
    absolute_output = absolute(output)
    own = absolute_output if absolute(folder) in absolute_output.parents else None
    files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    pictures = sorted(path for path in files if own not in absolute(path).parents)
    if not pictures:
        raise FileNotFoundError(f"no picture in folder: {folder} (looked for *{', *'.join(sorted(SUFFIXES))})")
    return pictures


def absolute(path: Path) -> Path:
    """The path without `..`, and with symbolic links as they are."""
    return Path(os.path.abspath(path))


def overlay_names(files: Sequence[Path]) -> list[str]:
    """Names files apart: by their path below the folder they share, without suffix where that suffices."""
    shared = os.path.commonpath([file.parent for file in files])
    full = [file.relative_to(shared) for file in files]
    short = [file.with_suffix("") for file in full]
    return [str(name) for name in (short if len(set(short)) == len(short) else full)]


def open_session(url: str) -> requests.Session:
    """Opens a session that keeps connections alive and waits for an overloaded server."""
    session = requests.Session()
    # A proxy from the environment would look for 127.0.0.1 on its own machine.
    session.trust_env = urlsplit(url).hostname not in {"127.0.0.1", "::1", "localhost"}
    session.headers["Accept"] = "application/json"
    adapter = HTTPAdapter(pool_maxsize=IN_FLIGHT, max_retries=RETRIES)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def explain(session: requests.Session, service: Service, path: Path, options: Options) -> Answer:
    """Has one picture classified and explained.

    Raises:
        PictureError: the file cannot be read, or the server refuses it.
        ServerError: no server answers, or it does not serve the model.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror}") from error
    response = post(session, service, content, options)
    if response.status_code == requests.codes.not_found:
        raise ServerError(
            f"{service.url} has no model {service.model!r} ({refusal(response)}). Name another with --model."
        )
    if not response.ok:
        raise PictureError(refusal(response))
    return parse(response)


def post(session: requests.Session, service: Service, content: bytes, options: Options) -> requests.Response:
    """Sends a picture, as a form: unlike headers, its fields carry labels in any script."""
    # A name of our own for the part: the file's might hold what a multipart header cannot.
    files = {"data": ("picture", content, "application/octet-stream")}
    try:
        return session.post(
            service.endpoint, files=files, data=options.form(), timeout=(CONNECT_SECONDS, ANSWER_SECONDS)
        )
    except requests.RequestException as error:
        if unreachable(error):
            raise ServerError(
                f"No server answers at {service.url}. Start one with `make serve`, or name yours with --url."
            ) from error
        raise PictureError(f"no answer from the server: {error}") from error


def unreachable(error: requests.RequestException) -> bool:
    """Tells a server that is not there from one that broke off."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    cause = error.args[0] if error.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)


def refusal(response: requests.Response) -> str:
    """Reads the reason out of an error, which is the handler's, TorchServe's or something in between's."""
    try:
        body = response.json()
    except requests.JSONDecodeError:
        body = None
    match body:
        case {"error": {"code": kind, "message": message}} | {"type": kind, "message": message}:
            return f"{kind}: {message}"
        case _:
            return f"HTTP {response.status_code} {response.reason}"


def parse(response: requests.Response) -> Answer:
    """Reads an answer.

    Raises:
        PictureError: it is not what this project's handler says, so another handler serves the model.
    """
    try:
        body = response.json()
        return Answer(
            predictions=tuple(prediction(entry) for entry in body["predictions"]),
            explanations=tuple(explanation(entry) for entry in body["explanations"]),
            method=str(body["method"]),
            layer=str(body["layer"]),
            document=document(body),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PictureError(f"the answer is not that of a Grad-CAM model: {response.text[:80]}") from error


def document(body: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an answer as it came, without its overlays."""
    explanations = [{key: entry[key] for key in entry if key != "overlay"} for entry in body["explanations"]]
    return {**{key: body[key] for key in ("predictions", "method", "layer", "image")}, "explanations": explanations}


def prediction(entry: dict[str, Any]) -> Prediction:
    """Reads one member of `predictions`."""
    return Prediction(int(entry["index"]), str(entry["label"]), float(entry["probability"]))


def explanation(entry: dict[str, Any]) -> Explanation:
    """Reads one member of `explanations`."""
    peak = None
    if entry["evidence"]:
        x, y = entry["peak"]
        peak = int(x), int(y)
    _, overlay = str(entry["overlay"]).split(",", maxsplit=1)  # data:image/jpeg;base64,…
    return Explanation(**vars(prediction(entry)), peak=peak, overlay=base64.b64decode(overlay, validate=True))


def explain_all(service: Service, pictures: Sequence[Picture], options: Options, output: Path) -> Iterator[Result]:
    """Explains pictures, several at once, writes their overlays, and yields in the order given.

    Raises:
        ServerError: as in `explain`; the pictures still waiting are dropped.
    """
    with open_session(service.url) as session, ThreadPoolExecutor(IN_FLIGHT) as pool:
        yield from pool.map(partial(process, session, service, options, output), pictures)


def process(session: requests.Session, service: Service, options: Options, output: Path, picture: Picture) -> Result:
    """Makes one picture's row."""
    try:
        answer = explain(session, service, picture.path, options)
        overlays = save_overlays(answer, output, picture.name)
    except PictureError as error:
        return Result(picture, error)
    return Result(picture, without_overlays(answer), tuple(overlays))


def save_overlays(answer: Answer, output: Path, name: str) -> list[Path]:
    """Writes an answer's overlays as `<name>.<index>-<label>.jpg`.

    Raises:
        PictureError: a file cannot be written.
    """
    written = []
    for explained in answer.explanations:
        path = output / f"{name}.{explained.index}-{slug(explained.label)}.jpg"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(explained.overlay)
        except OSError as error:
            raise PictureError(f"overlay not written to {path}: {error.strerror}") from error
        written.append(path)
    return written


def slug(label: str) -> str:
    """Makes a label fit for a file name: letters and digits of any script, joined by hyphens."""
    return re.sub(r"\W+", "-", label.lower())[:LABEL_CHARACTERS].strip("-")


def without_overlays(answer: Answer) -> Answer:
    """Drops the bytes: those of a large folder would not fit in memory until the table is printed."""
    return replace(answer, explanations=tuple(replace(entry, overlay=b"") for entry in answer.explanations))


def report_result(report: Report, result: Result) -> None:
    """Adds a picture to the report; one of which no thumbnail can be made becomes an error."""
    name = str(result.picture.path)
    try:
        if isinstance(result.answer, PictureError):
            raise result.answer
        report.add(name, result.picture.path, result.answer.document)
    except PictureError as error:
        report.add_error(name, str(error))
    except OSError as error:
        report.add_error(name, f"explained, but no thumbnail can be made of it: {error}")


def without_document(result: Result) -> Result:
    """Drops what only a report needs: maps of a large folder would fill the memory."""
    if isinstance(result.answer, PictureError):
        return result
    return replace(result, answer=replace(result.answer, document={}))


def print_table(results: Sequence[Result]) -> None:
    """Prints results on standard output, a section for each picture."""
    table = Table("Picture", "Class", "Probability", "Explained", caption=explained_by(results))
    for result in results:
        for number, cells in enumerate(rows(result.answer)):
            shown = "" if number else printable(str(result.picture.path))
            table.add_row(Text(shown, overflow="fold"), *cells)
        table.add_section()
    Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(table)


def explained_by(results: Sequence[Result]) -> Text | None:
    """Names method and layer, which are the same for all pictures of a run."""
    for result in results:
        if isinstance(result.answer, Answer):
            return Text(printable(f"Explained by {result.answer.method} at {result.answer.layer}"))
    return None


def rows(answer: Answer | PictureError) -> Iterator[tuple[Text, ...]]:
    """Yields a row for each class: the most probable first, then what else was asked for."""
    if isinstance(answer, PictureError):
        yield (Text(printable(str(answer)), style="red"),)
        return
    explanations = {entry.index: entry for entry in answer.explanations}
    probable = {entry.index for entry in answer.predictions}
    asked = [entry for entry in answer.explanations if entry.index not in probable]
    for entry in (*answer.predictions, *asked):
        yield class_row(entry, explanations.get(entry.index))


def class_row(entry: Prediction, explained: Explanation | None) -> tuple[Text, Text, Text]:
    """Shows a class; the explained ones stand out."""
    return (
        Text(printable(f"{entry.index} {entry.label}"), style="bold" if explained else ""),
        Text(f"{entry.probability:7.2%} {'█' * round(BAR_CELLS * entry.probability)}"),
        Text(finding(explained) if explained else ""),
    )


def finding(explained: Explanation) -> str:
    """Says what came out of an explanation."""
    if explained.peak is None:
        return "nothing speaks for this class"
    x, y = explained.peak
    return f"peak at x={x}, y={y}"


def printable(text: str) -> str:
    """Replaces what cannot be encoded or would steer the terminal: names, labels, messages are not ours."""
    spaced = (" " if character.isspace() else character for character in text)
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in spaced)


def target_list(text: str) -> str:
    """Checks the form of `--targets`; which classes there are, the server knows."""
    if not all(target.strip() for target in text.split(",")):
        raise argparse.ArgumentTypeError(f'{text!r} names an empty class; write 281,"Egyptian cat"')
    return text


def class_count(text: str) -> int:
    """Reads `--topk`."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of classes; write 1 or more")
    return int(text)


def server_url(text: str) -> str:
    """Checks `--url`."""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} is no address; write http://HOST:PORT")
    return text


def argument_parser() -> argparse.ArgumentParser:
    """Describes the command line."""
    parser = argparse.ArgumentParser(
        description="Classifies pictures on the server and writes overlays showing what speaks for a class.",
        epilog="Exit status: 0 all pictures answered, 1 some failed or no server, 2 wrong usage.",
    )
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="IMAGE|FOLDER", help="pictures, and folders searched for them"
    )
    parser.add_argument("--url", type=server_url, default=Service.url, help="the server (default: %(default)s)")
    parser.add_argument("--model", default=Service.model, help="the model's name (default: %(default)s)")
    parser.add_argument(
        "--targets",
        type=target_list,
        metavar="CLASS,…",
        help="classes to explain, as index or label (default: the predicted one)",
    )
    parser.add_argument("--topk", type=class_count, metavar="N", help="how many classes to list (default: 5)")
    parser.add_argument("--method", help="how to explain (default: the model's method)")
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, metavar="DIR", help="where overlays go (default: %(default)s)"
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="also write all of it as one HTML file that opens from disk"
    )
    return parser


def run(
    service: Service, pictures: Sequence[Picture], options: Options, output: Path, report: Report | None = None
) -> int:
    """Explains pictures, reports, and returns the exit status."""
    answers = explain_all(service, pictures, options, output)
    quiet = len(pictures) == 1 or not sys.stderr.isatty()
    progress = track(answers, "Explaining", len(pictures), console=Console(stderr=True), transient=True, disable=quiet)
    results: list[Result] = []
    failure: ServerError | None = None
    try:
        for result in progress:
            if report is not None:
                report_result(report, result)
            results.append(without_document(result))
    except ServerError as error:
        failure = error
    if results:
        print_table(results)
        print(f"Overlays written to {output}: {sum(len(result.overlays) for result in results)}")
    if failure:
        print(printable(str(failure)), file=sys.stderr)
    return int(bool(failure) or any(isinstance(result.answer, PictureError) for result in results))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line."""
    # What it has to say of a connection that it makes once more is no news to whoever reads the table.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    parser = argument_parser()
    given = parser.parse_args(arguments)
    service = Service(given.url, given.model)
    options = Options(given.targets, given.topk, given.method)
    with ExitStack() as stack:
        report = None
        try:
            pictures = find_pictures(given.inputs, given.output)
            given.output.mkdir(parents=True, exist_ok=True)
            if given.report is not None:
                report = stack.enter_context(Report(given.report, service.model))
        except OSError as error:
            parser.error(str(error))
        status = run(service, pictures, options, given.output, report)
    if report is not None:
        print(f"Report written to {given.report}")
    return status


def interrupt(*_: object) -> NoReturn:
    """Ends the process on Ctrl-C; KeyboardInterrupt would wait for requests that a stuck server holds on to."""
    Console(stderr=True).show_cursor()  # the progress bar hides it
    os._exit(130)
