"""A bundle: maps, overlays, and a manifest with everything that is needed to explain the same images again.

    bundle/cat.281-tabby.jpg   the overlay of a class
    bundle/cat.281-tabby.npy   its map, float32 (h, w) in [0, 1]
    bundle/manifest.json       written last: a bundle without it is incomplete

`reproduce` reads it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from tools.client.answers import Answer
from tools.client.client import Client
from tools.client.endpoint import OptionValue
from tools.client.errors import ImageError
from tools.client.explained import Result, file_name
from tools.client.records import error_members
from tools.paths import HANDLER

MANIFEST = "manifest.json"
FORMAT = 1
TOOL = "gradcam-serving"
# Members of the server's description that no map depends on, or that are long lists of all that exists.
IRRELEVANT = frozenset({"labels", "layers", "methods"})


class Bundle:
    """A folder that receives maps and finally the manifest."""

    def __init__(
        self, folder: Path, client: Client, options: Mapping[str, OptionValue], description: Mapping[str, Any] | None
    ) -> None:
        """Begin a bundle; a manifest that exists is removed.

        Args:
            folder: of the bundle, in which the overlays are, too.
            client: of the model.
            options: of the request for every image.
            description: of the model, by the server's management API; None if that cannot be reached.

        Raises:
            OSError: the folder cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        self._folder = folder
        self._images: list[dict[str, Any]] = []
        self._model: Mapping[str, Any] | None = None
        self._head = {
            "format": FORMAT,
            "tool": {"name": TOOL, "version": version()},
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "folder": str(Path.cwd()),
            "server": {"url": client.url, "model": client.model, "version": client.version},
            "options": dict(options),
            "description": description and {key: description[key] for key in description.keys() - IRRELEVANT},
        }

    def add(self, result: Result) -> None:
        """Write the maps of an image, and remember its answer.

        Raises:
            OSError: a map cannot be written.
        """
        entry: dict[str, Any] = {"path": str(result.image.path), "sha256": result.sha256}
        if isinstance(result.answer, ImageError):
            self._images.append({**entry, "error": error_members(result.answer)})
            return
        self._model = self._model or result.answer.document.get("model")
        maps = self._write_maps(result.image.name, result.answer)
        overlays = [os.path.relpath(path, self._folder) for path in result.overlays]
        self._images.append(
            {**entry, "answer": without_maps(result.answer.document), "maps": maps, "overlays": overlays}
        )

    def finish(self) -> Path:
        """Write the manifest atomically, and return its path.

        Raises:
            OSError: it cannot be written.
        """
        path = self._folder / MANIFEST
        partial = self._folder / f".{MANIFEST}"
        manifest = {**self._head, "model": self._model, "images": self._images}
        with partial.open("w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        return path

    def _write_maps(self, name: str, answer: Answer) -> list[dict[str, Any]]:
        """Write the map of each explained class; return file names with their SHA-256."""
        written = []
        for entry in answer.explanations:
            path = self._folder / f"{file_name(name, entry)}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.asarray(entry.heatmap, np.float32))
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            written.append({"index": entry.index, "file": os.path.relpath(path, self._folder), "sha256": digest})
        return written


def version() -> str:
    """Return the version of this checkout, which the client reads without importing the handler."""
    source = (HANDLER / "gradcam" / "__init__.py").read_text(encoding="utf-8")
    (found,) = re.findall(r'^__version__ = "(.*)"$', source, re.MULTILINE)
    return str(found)


def without_maps(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer without its maps, which are files of the bundle."""
    explanations = [{key: entry[key] for key in entry if key != "heatmap"} for entry in document["explanations"]]
    return {**document, "explanations": explanations}
