"""Class names, and the class that a request means."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gradcam.errors import MAX_COMPARED_CHARACTERS, UnknownName, suggestions, truncated_repr
from gradcam.network.architecture import NetworkError


@dataclass(frozen=True)
class Labels:
    """Names of the classes, by index."""

    names: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Labels:
        """Read a labels file.

        A `.json` file holds a list of names, or TorchServe's `index_to_name.json`: an object from index to name or to
        `[WordNet ID, name]`. Any other file holds one name per line.

        Raises:
            NetworkError: the file has none of these forms, or an index is missing.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
            names = _names_from_json(json.loads(text)) if path.suffix == ".json" else text.splitlines()
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise NetworkError(f"Cannot read labels file {path.name}: {error}") from error
        except NetworkError as error:
            raise NetworkError(f"Labels file {path.name} {error}") from error
        stripped = tuple(name.strip() for name in names)
        if not stripped or not all(stripped):
            raise NetworkError(f"Labels file {path.name} must have a name for every class, none of them empty")
        return cls(stripped)

    def has(self, label: str) -> bool:
        """Tell whether any class has this label, ignoring case."""
        return label.casefold() in self._indices_by_folded()

    def index(self, target: int | str) -> int:
        """Return the index of a class that a request names by index or by label, ignoring case.

        Raises:
            UnknownName: no class matches, or several do.
        """
        if isinstance(target, int):
            if not 0 <= target < len(self.names):
                raise UnknownName(
                    f"Class index must be between 0 and {len(self.names) - 1}, got {target}", code="unknown_class"
                )
            return target
        exact = [index for index, name in enumerate(self.names) if name == target]
        indices = exact or self._indices_by_folded()[target.casefold()]
        if len(indices) > 1:
            listed = " and ".join(map(str, indices))
            raise UnknownName(
                f"Label {truncated_repr(target)} is ambiguous: classes {listed} have it; send an index",
                code="ambiguous_class",
            )
        if not indices:
            near = suggestions(target, self.names, self._containing(target))
            raise UnknownName(f"Unknown label {truncated_repr(target)}{near}", code="unknown_class")
        return indices[0]

    def _containing(self, text: str) -> list[str]:
        """Return labels that contain a text: as whole words first, then as the start of a word, then anywhere."""
        if len(text) > MAX_COMPARED_CHARACTERS:
            return []
        places = [rf"\b{re.escape(text)}\b", rf"\b{re.escape(text)}", re.escape(text)]
        found = [name for place in places for name in self.names if re.search(place, name, re.IGNORECASE)]
        return list(dict.fromkeys(found))

    def _indices_by_folded(self) -> defaultdict[str, list[int]]:
        indices = defaultdict(list)
        for index, name in enumerate(self.names):
            indices[name.casefold()].append(index)
        return indices


def _names_from_json(document: object) -> Sequence[str]:
    if isinstance(document, dict):
        missing = [index for index in range(len(document)) if str(index) not in document]
        if missing:
            raise NetworkError(f"must have the keys 0 to {len(document) - 1}, but {missing[0]} is missing")
        document = [document[str(index)] for index in range(len(document))]
    if not isinstance(document, list):
        raise NetworkError(
            f"must be a JSON list of names or an object from index to name, got a {type(document).__name__}"
        )
    names = [entry[-1] if isinstance(entry, list) and entry else entry for entry in document]
    if not all(isinstance(name, str) for name in names):
        raise NetworkError("must have a string as the name of every class")
    return names
