"""Takes a new version of a model into a running server beside the old one, compares them, switches, and back.

    scripts/rollout.py versions --model mine
    scripts/rollout.py add build/mine.mar --model-store /srv/model_store
    scripts/rollout.py compare PICTURES --model mine --old 1.0 --new 2.0
    scripts/rollout.py switch --model mine --to 2.0
    scripts/rollout.py remove --model mine --version 1.0

`add` and `remove` need a server that allows it; docs/rollout.md says when that is safe, and what to do without.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import uuid
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import requests
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tools.client.client import CONNECT_SECONDS, find_pictures, open_session, printable, refusal, server_url
from tools.server import healthcheck

# Of loading a model, which `add` waits for.
ADD_SECONDS = 300
ANSWER_SECONDS = 120
SHOWN = 20

Document = dict[str, Any]


class RolloutError(Exception):
    """The step cannot be done; the message says why."""


@dataclass(frozen=True)
class Served:
    """One version of a model on a server."""

    url: str
    model: str
    version: str

    @property
    def endpoint(self) -> str:
        """The address that takes pictures for this version, whichever is the default."""
        return f"{self.url.rstrip('/')}/predictions/{quote(self.model, safe='')}/{quote(self.version, safe='')}"


@dataclass(frozen=True)
class Version:
    """What the server says about a version."""

    name: str
    archive: str
    ready: int
    default: bool


@dataclass(frozen=True)
class Compared:
    """What both versions say to one picture."""

    picture: Path
    old: str
    """The predicted class, or the code of the error."""
    new: str
    cosine: float | None
    """Between the maps for the class that the old version predicts; None where one of them has none."""
    answered: bool
    """Whether the new version answers wherever the old one does."""


# ----------------------------------------------------------------------------- management


def manage(method: str, server: str, path: str, **parameters: Any) -> Any:
    """Calls the management API.

    Raises:
        RolloutError: the server is not there, or refuses.
    """
    with open_session(server) as session:
        try:
            response = session.request(
                method, f"{server.rstrip('/')}{path}", params=parameters, timeout=(CONNECT_SECONDS, ADD_SECONDS)
            )
        except requests.RequestException as error:
            raise RolloutError(f"no answer from {server}: {error}") from error
    if response.status_code == requests.codes.method_not_allowed:
        raise RolloutError(f"{server} does not allow it (enable_model_api=false): docs/rollout.md says what to do")
    if not response.ok:
        raise RolloutError(refusal(response))
    return response.json()


def versions(url: str, model: str) -> list[Version]:
    """Returns the versions of a model.

    Raises:
        RolloutError: there is no such model.
    """
    path = f"/models/{quote(model, safe='')}"
    (default,) = manage("GET", url, path)
    return [
        Version(
            name=entry["modelVersion"],
            archive=entry["modelUrl"],
            ready=sum(worker["status"] == "READY" for worker in entry["workers"]),
            default=entry["modelVersion"] == default["modelVersion"],
        )
        for entry in manage("GET", url, f"{path}/all")
    ]


def add(url: str, archive: Path, store: Path) -> tuple[str, str]:
    """Puts an archive into the server's model store and has it loaded; returns the model's name and version.

    The default version stays what it is.

    Raises:
        RolloutError: it is no archive, the version is there already, or the server refuses.
    """
    model, version = identity(archive)
    target = store / f"{model}-{version}.mar"
    if target.exists():
        raise RolloutError(f"{target} is there already; build the archive with another --version")
    partial = store / f".{target.name}.{uuid.uuid4().hex}"
    try:
        shutil.copyfile(archive, partial)
        partial.rename(target)
    except OSError as error:
        raise RolloutError(f"{target}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    try:
        manage("POST", url, "/models", url=target.name, initial_workers=1, synchronous="true")
    except RolloutError:
        target.unlink()
        raise
    return model, version


def identity(archive: Path) -> tuple[str, str]:
    """Returns the name and version that an archive's manifest says.

    Raises:
        RolloutError: it is no archive.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            model = json.loads(opened.read("MAR-INF/MANIFEST.json"))["model"]
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise RolloutError(f"{archive} is not a model archive: {error}") from error
    return model["modelName"], model["modelVersion"]


def switch(management: str, inference: str, model: str, to: str) -> str:
    """Makes a version the one that answers requests which name none; returns the one that did.

    Raises:
        RolloutError: there is no such version, or it does not answer.
    """
    known = {version.name: version for version in versions(management, model)}
    if to not in known:
        raise RolloutError(f"{model} has no version {to} (versions are {', '.join(known)})")
    (before,) = (version.name for version in known.values() if version.default)
    # A version without a worker would be made the default, too.
    if wrong := healthcheck.check(inference, f"{model}/{to}", healthcheck.TIMEOUT):
        raise RolloutError(f"version {to} does not answer, {before} stays: {wrong}")
    manage("PUT", management, f"/models/{quote(model, safe='')}/{quote(to, safe='')}/set-default")
    return before


# ----------------------------------------------------------------------------- comparing


def compare(session: requests.Session, old: Served, new: Served, picture: Path) -> Compared:
    """Has both versions answer one picture.

    Raises:
        RolloutError: a server is not there, or has no such version.
    """
    before = ask(session, old, picture)
    after = ask(session, new, picture)
    said = predicted(before), predicted(after)
    if "error" in before:
        return Compared(picture, *said, cosine=None, answered=True)
    after = ask(session, new, picture, targets=csv_quoted(said[0])) if said[0] != said[1] else after
    maps = heatmap(before), heatmap(after)
    return Compared(
        picture,
        *said,
        cosine=None if maps[0] is None or maps[1] is None else cosine(maps[0], maps[1]),
        answered=not said[1].startswith("error "),
    )


def ask(session: requests.Session, served: Served, picture: Path, **options: str) -> Document:
    """Returns the answer, which may be an error.

    Raises:
        RolloutError: there is none.
    """
    files = {"data": ("picture", picture.read_bytes(), "application/octet-stream")}
    try:
        response = session.post(served.endpoint, files=files, data=options, timeout=(CONNECT_SECONDS, ANSWER_SECONDS))
        document: Document = response.json()
    except requests.RequestException as error:
        raise RolloutError(f"no answer from {served.endpoint}: {error}") from error
    if not document.keys() & {"predictions", "error"}:
        raise RolloutError(f"{served.endpoint}: {refusal(response)}")
    return document


def predicted(answer: Document) -> str:
    """Returns the most probable class, or what is wrong."""
    return f"error {answer['error']['code']}" if "error" in answer else str(answer["predictions"][0]["label"])


def csv_quoted(label: str) -> str:
    """Returns a label as the option `targets` takes it, whatever is in it."""
    return '"' + label.replace('"', '""') + '"'


def heatmap(answer: Document) -> NDArray[np.float32] | None:
    """Returns the map (h, w), if there is one: the new version may not have the class."""
    return None if "error" in answer else np.asarray(answer["explanations"][0]["heatmap"], np.float32)


def cosine(old: NDArray[np.float32], new: NDArray[np.float32]) -> float:
    """Returns the cosine of two maps, the new one at the old one's size; two that are all 0 are the same."""
    if new.shape != old.shape:
        resized = Image.fromarray(new).resize((old.shape[1], old.shape[0]), Image.Resampling.BILINEAR)
        new = np.asarray(resized, np.float32)
    norms = float(np.linalg.norm(old)), float(np.linalg.norm(new))
    if 0 in norms:
        return float(norms[0] == norms[1])
    return float((old * new).sum()) / (norms[0] * norms[1])


def report(compared: Sequence[Compared], agreement: float, least_cosine: float, console: Console) -> bool:
    """Prints what differs, and whether the new version is near enough to the old one."""
    differing = [entry for entry in compared if entry.old != entry.new]
    if differing:
        table = Table("Picture", "Old", "New", "Cosine of maps", title=f"{len(differing)} differ; the first {SHOWN}")
        for entry in differing[:SHOWN]:
            shown = "" if entry.cosine is None else f"{entry.cosine:.3f}"
            table.add_row(*(printable(text) for text in (str(entry.picture), entry.old, entry.new, shown)))
        console.print(table)
    agreed = 1 - len(differing) / len(compared)
    cosines = [entry.cosine for entry in compared if entry.cosine is not None] or [0.0]
    unanswered = sum(not entry.answered for entry in compared)
    good = agreed >= agreement and float(np.mean(cosines)) >= least_cosine and not unanswered
    console.print(
        f"{len(compared)} pictures: same class {agreed:.1%} (wanted {agreement:.1%}), cosine of maps mean "
        f"{np.mean(cosines):.3f} (wanted {least_cosine:.3f}) least {min(cosines):.3f}, refused by the new version "
        f"only {unanswered} (wanted 0): {'near enough' if good else 'NOT near enough'}",
        highlight=False,
        soft_wrap=True,
    )
    return good


# ----------------------------------------------------------------------------- commands


def run_versions(given: argparse.Namespace, console: Console) -> int:
    """Lists versions."""
    for version in versions(given.management_url, given.model):
        mark = "  default" if version.default else ""
        console.print(
            f"{given.model} {version.name}  {version.archive}  {version.ready} ready{mark}",
            highlight=False,
            markup=False,
        )
    return 0


def run_add(given: argparse.Namespace, console: Console) -> int:
    """Adds a version."""
    model, version = add(given.management_url, given.archive, given.model_store)
    console.print(f"{model} {version} is loaded; ask it at /predictions/{model}/{version}", highlight=False)
    return 0


def run_compare(given: argparse.Namespace, console: Console) -> int:
    """Compares two versions."""
    old = Served(given.url, given.model, given.old)
    new = Served(given.new_url or given.url, given.model, given.new)
    pictures = [picture.path for picture in find_pictures(given.pictures, Path("build/none"))]
    with open_session(given.url) as session:
        quiet = not sys.stderr.isatty()
        shown = track(pictures, "Comparing", console=Console(stderr=True), transient=True, disable=quiet)
        compared = [compare(session, old, new, picture) for picture in shown]
    return int(not report(compared, given.agreement, given.cosine, console))


def run_switch(given: argparse.Namespace, console: Console) -> int:
    """Switches the default version."""
    before = switch(given.management_url, given.url, given.model, given.to)
    console.print(
        f"{given.model}: {before} → {given.to}. Back: scripts/rollout.py switch --model {given.model} --to {before}"
    )
    return 0


def run_remove(given: argparse.Namespace, console: Console) -> int:
    """Removes a version."""
    path = f"/models/{quote(given.model, safe='')}/{quote(given.version, safe='')}"
    manage("DELETE", given.management_url, path)
    console.print(
        f"{given.model} {given.version} is unloaded; its archive is still in the model store", highlight=False
    )
    return 0


def argument_parser() -> argparse.ArgumentParser:
    """Describes the command line."""
    parser = argparse.ArgumentParser(
        description="Takes a new version of a model into a running server, compares, switches, and back.",
        epilog="Exit status: 0 done, 1 not done or not near enough, 2 wrong usage.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        added.add_argument("--url", type=server_url, default="http://127.0.0.1:8080", help="default: %(default)s")
        added.add_argument(
            "--management-url", type=server_url, default="http://127.0.0.1:8081", help="default: %(default)s"
        )
        return added

    known = command("versions", run_versions, "list the versions of a model")
    adding = command("add", run_add, "load an archive beside the versions that there are")
    comparing = command("compare", run_compare, "compare the answers of two versions to pictures")
    switching = command("switch", run_switch, "make a version the default; the way back is the same")
    removing = command("remove", run_remove, "unload a version")
    for needs_model in (known, comparing, switching, removing):
        needs_model.add_argument("--model", required=True)
    adding.add_argument("archive", type=Path)
    adding.add_argument("--model-store", type=Path, required=True, help="the server's folder of archives")
    comparing.add_argument("pictures", nargs="+", type=Path, metavar="IMAGE|FOLDER")
    comparing.add_argument("--old", required=True, metavar="VERSION")
    comparing.add_argument("--new", required=True, metavar="VERSION")
    comparing.add_argument("--new-url", type=server_url, help="of the new version, where it has a server of its own")
    comparing.add_argument("--agreement", type=float, default=0.9, help="least share of same classes (%(default)s)")
    comparing.add_argument("--cosine", type=float, default=0.8, help="least mean cosine of the maps (%(default)s)")
    switching.add_argument("--to", required=True, metavar="VERSION")
    removing.add_argument("--version", required=True)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line."""
    given = argument_parser().parse_args(arguments)
    try:
        status: int = given.run(given, Console(soft_wrap=True))
    except (RolloutError, OSError) as error:
        print(f"rollout: {error}", file=sys.stderr)
        return 1
    return status
