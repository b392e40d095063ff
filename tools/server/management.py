"""Versions of a model on a running server, through TorchServe's management API."""

from __future__ import annotations

import json
import shutil
import uuid
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from tools.server import healthcheck
from tools.sessions import open_session

CONNECT_SECONDS = 5
LOAD_SECONDS = 300  # `add_version` waits until the model is loaded


class ManagementError(Exception):
    """The management API cannot do it; the message says why."""


@dataclass(frozen=True)
class Version:
    """A version of a model, as the server describes it."""

    name: str
    archive: str
    ready: int
    """Workers that are ready."""
    default: bool


def call(method: str, server: str, path: str, **parameters: Any) -> Any:
    """Call the management API and return its JSON.

    Raises:
        ManagementError: the server does not answer, or answers with an error.
    """
    with open_session(server) as session:
        try:
            response = session.request(
                method, f"{server.rstrip('/')}{path}", params=parameters, timeout=(CONNECT_SECONDS, LOAD_SECONDS)
            )
        except requests.RequestException as error:
            raise ManagementError(f"no answer from {server}: {error}") from error
    if response.status_code == requests.codes.method_not_allowed:
        raise ManagementError(f"{server} does not allow it (enable_model_api=false): docs/rollout.md has alternatives")
    if not response.ok:
        raise ManagementError(_message(response))
    return response.json()


def versions(server: str, model: str) -> list[Version]:
    """Return the versions of a model.

    Raises:
        ManagementError: there is no such model.
    """
    path = f"/models/{quote(model, safe='')}"
    (default,) = call("GET", server, path)
    return [
        Version(
            name=entry["modelVersion"],
            archive=entry["modelUrl"],
            ready=sum(worker["status"] == "READY" for worker in entry["workers"]),
            default=entry["modelVersion"] == default["modelVersion"],
        )
        for entry in call("GET", server, f"{path}/all")
    ]


def describe(server: str, model: str, version: str | None = None) -> dict[str, Any]:
    """Return the handler's description of a model: settings, engine, versions.

    Raises:
        ManagementError: there is no such model, or it has no description.
    """
    names = "/".join(quote(name, safe="") for name in (model, version) if name is not None)
    (entry,) = call("GET", server, f"/models/{names}", customized="true")
    description = entry.get("customizedMetadata")
    if not isinstance(description, dict):
        raise ManagementError(f"{server} does not describe {model}")
    return description


def add_version(server: str, archive: Path, store: Path) -> tuple[str, str]:
    """Copy an archive into the server's model store and load it; return the model's name and version.

    The default version stays the same.

    Raises:
        ManagementError: the file is not an archive, the version exists already, or the server answers with an error.
    """
    model, version = identity(archive)
    target = store / f"{model}-{version}.mar"
    if target.exists():
        raise ManagementError(f"{target} exists already; build the archive with another --version")
    partial = store / f".{target.name}.{uuid.uuid4().hex}"
    try:
        shutil.copyfile(archive, partial)
        partial.rename(target)
    except OSError as error:
        raise ManagementError(f"{target}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    try:
        call("POST", server, "/models", url=target.name, initial_workers=1, synchronous="true")
    except ManagementError:
        target.unlink()
        raise
    return model, version


def set_default(server: str, inference: str, model: str, version: str) -> str:
    """Make a version the one that answers requests without a version; return the previous one.

    Args:
        server: root of the management API.
        inference: root of the inference API, to check that the version answers.
        model: name of the model.
        version: the new default.

    Raises:
        ManagementError: there is no such version, or it does not answer.
    """
    existing = {entry.name: entry for entry in versions(server, model)}
    if version not in existing:
        raise ManagementError(f"{model} has no version {version} (versions are {', '.join(existing)})")
    (before,) = (entry.name for entry in existing.values() if entry.default)
    path = f"{quote(model, safe='')}/{quote(version, safe='')}"
    # TorchServe would also accept a version without a worker.
    if error := healthcheck.check_endpoint(f"{inference.rstrip('/')}/predictions/{path}"):
        raise ManagementError(f"version {version} does not answer, {before} stays the default: {error}")
    call("PUT", server, f"/models/{path}/set-default")
    return before


def remove_version(server: str, model: str, version: str) -> None:
    """Unload a version; its archive stays in the model store.

    Raises:
        ManagementError: there is no such version, or it is the default.
    """
    call("DELETE", server, f"/models/{quote(model, safe='')}/{quote(version, safe='')}")


def identity(archive: Path) -> tuple[str, str]:
    """Return the name and version in an archive's manifest.

    Raises:
        ManagementError: the file is not an archive.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            model = json.loads(opened.read("MAR-INF/MANIFEST.json"))["model"]
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ManagementError(f"{archive} is not a model archive: {error}") from error
    return model["modelName"], model["modelVersion"]


def _message(response: requests.Response) -> str:
    try:
        body = response.json()
    except requests.JSONDecodeError:
        body = None
    match body:
        case {"type": kind, "message": message}:
            return f"{kind}: {message}"
        case _:
            return f"HTTP {response.status_code} {response.reason}"
