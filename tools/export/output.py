"""Write files to a folder, all of them or none."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def all_or_nothing(folder: Path) -> Iterator[Path]:
    """Give a temporary folder inside `folder`, whose files move up when the block ends without an exception.

    A file that is being read stays intact for its reader: moving replaces the name, not the content.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as partial:
        yield Path(partial)
        for path in sorted(entry for entry in Path(partial).rglob("*") if entry.is_file()):
            target = folder / path.relative_to(partial)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
