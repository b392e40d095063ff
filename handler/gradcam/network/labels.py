"""The names of the classes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gradcam.errors import UnknownName, suggestions, truncated_repr
from gradcam.network.architecture import NetworkError


@dataclass(frozen=True)
class Labels:
    """The names of the classes, by index."""

    names: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Labels:
        """Reads a labels file.

        JSON: a list of names, or TorchServe's `index_to_name.json`, an object from index to name or to
        `[wordnet id, name]`. Any other file: a name a line.

        Raises:
            NetworkError: the file cannot be read as one of these, or an index is missing.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
            names = _names_from_json(json.loads(text)) if path.suffix == ".json" else text.splitlines()
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise NetworkError(f"cannot read the labels file {path.name}: {error}") from error
        except NetworkError as error:
            raise NetworkError(f"labels file {path.name}: {error}") from error
        stripped = tuple(name.strip() for name in names)
        if not stripped or not all(stripped):
            raise NetworkError(f"labels file {path.name}: every class needs a name, none may be empty")
        return cls(stripped)

    def index(self, target: int | str) -> int:
        """Returns the index of a class that a request names by index or by label, in any case.

        Raises:
            UnknownName: there is no such class, or the label belongs to several.
        """
        if isinstance(target, int):
            if not 0 <= target < len(self.names):
                raise UnknownName(
                    f"there is no class {target}: indices go from 0 to {len(self.names) - 1}",
                    code="unknown_class",
                )
            return target
        indices = [i for i, name in enumerate(self.names) if name == target] or self._folded()[target.casefold()]
        if len(indices) > 1:
            listed = " and ".join(map(str, indices))
            raise UnknownName(
                f"the label {truncated_repr(target)} belongs to the classes {listed}: ask for one by its index",
                code="ambiguous_class",
            )
        if not indices:
            raise UnknownName(
                f"there is no class with the label {truncated_repr(target)}{suggestions(target, self.names)}",
                code="unknown_class",
            )
        return indices[0]

    def _folded(self) -> defaultdict[str, list[int]]:
        folded = defaultdict(list)
        for index, name in enumerate(self.names):
            folded[name.casefold()].append(index)
        return folded


def _names_from_json(document: object) -> Sequence[str]:
    if isinstance(document, dict):
        missing = [index for index in range(len(document)) if str(index) not in document]
        if missing:
            raise NetworkError(f"an object must have the keys 0 to {len(document) - 1}; {missing[0]} is missing")
        document = [document[str(index)] for index in range(len(document))]
    if not isinstance(document, list):
        raise NetworkError("must be a JSON list of names, or an object from index to name")
    names = [entry[-1] if isinstance(entry, list) and entry else entry for entry in document]
    if not all(isinstance(name, str) for name in names):
        raise NetworkError("every name must be a string")
    return names
