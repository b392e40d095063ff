"""What runs on the nodes of a cluster for `explain_dataset.py`: an actor that makes Parquet files.

Ray carries this module and `dataset_engine` to the nodes by value; they import nothing else of this repository.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from tools.bulk.worker_process import Engine, Row

OWNER_FILE = ".owner"

CLASS = [("index", pa.int32()), ("label", pa.string()), ("probability", pa.float32())]
EXPLANATION = [("evidence", pa.bool_()), ("peak", pa.list_(pa.int32())), ("heatmap", pa.list_(pa.list_(pa.float32())))]
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("error", pa.struct([("code", pa.string()), ("message", pa.string())])),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("region", pa.list_(pa.int32())),
        ("method", pa.string()),
        ("layers", pa.list_(pa.string())),
        ("predictions", pa.list_(pa.struct(CLASS))),
        ("explanations", pa.list_(pa.struct([*CLASS, *EXPLANATION]))),
    ]
)


class Superseded(Exception):
    """Another run has begun to write into the folder."""


@dataclass(frozen=True)
class Work:
    """What the actors of a run are to do."""

    program: str
    """The text of `explain_worker.py`."""
    options: dict[str, Any]
    """What to ask about every picture."""
    root: str | None
    """What relative paths begin at; None where the table has the pictures' bytes."""
    output: str
    """Folder for the Parquet files, the same for all nodes."""
    run: str
    """That they belong to."""


class Explainer:
    """Ray's actor: turns a table of pictures into a Parquet file, and says which.

    The file's name comes from the pictures' and it is there whole or not at all. So a table that Ray has done again,
    because an actor or a node was lost, makes the same file once more, or finds it made.
    """

    def __init__(self, archive: Any, work: Work) -> None:
        """Starts the engine.

        Args:
            archive: Ray's reference to the bytes of the `.mar`.
            work: what to do.

        Raises:
            FileNotFoundError: the node does not see the output folder.
        """
        self._work, self._output = work, Path(work.output)
        if not (self._output / OWNER_FILE).exists():
            raise FileNotFoundError(f"node {os.uname().nodename} does not see {work.output}: it must be shared")
        self._engine = Engine(ray.get(archive), work.program, work.options)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Explains the pictures of a table with the columns `path` and, where there is no root, `image`."""
        paths = table["path"].to_pylist()
        target = self._output / file_name(paths)
        if not target.exists():
            write(rows(paths, self._engine.answer(self._pictures(table))), target, self._work.run)
        done = pq.read_table(target, columns=["error"])
        errors = done.num_rows - done["error"].null_count
        return pa.table({"file": [target.name], "rows": [done.num_rows], "errors": [errors]})

    def _pictures(self, table: pa.Table) -> list[bytes | str]:
        if self._work.root is None:
            return [image or b"" for image in table["image"].to_pylist()]
        return [os.path.join(self._work.root, path) for path in table["path"].to_pylist()]


def file_name(paths: Sequence[str]) -> str:
    """Returns the name of the file for these pictures: the same for the same, another one for any other."""
    return f"part-{hashlib.sha256(json.dumps(list(paths)).encode()).hexdigest()[:32]}.parquet"


def rows(paths: Sequence[str], answers: Sequence[Row]) -> pa.Table:
    """Returns the table of answers."""
    return pa.Table.from_pylist(
        [{"path": path, **answer} for path, answer in zip(paths, answers, strict=True)], schema=SCHEMA
    )


def write(table: pa.Table, target: Path, run: str) -> None:
    """Writes a Parquet file in one step, so that nobody ever finds half of it.

    Raises:
        Superseded: the folder belongs to another run.
    """
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    with partial.open("wb") as file:
        pq.write_table(table, file)
        file.flush()
        os.fsync(file.fileno())
    with owned(target.parent, run):
        partial.replace(target)


@contextmanager
def owned(output: Path, run: str) -> Iterator[None]:
    """Keeps the folder from changing its owner.

    An actor outlives a command that is killed by some seconds. What it wrote then, the next run would not know of, and
    do again.

    Raises:
        Superseded: the folder belongs to another run.
    """
    with (output / OWNER_FILE).open(encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        if (owner := file.read()) != run:
            raise Superseded(f"{output} belongs to run {owner}, not {run}")
        yield


def own(output: Path, run: str) -> None:
    """Makes the folder a run's; when this returns, no actor of an earlier run writes there any more."""
    with (output / OWNER_FILE).open("a", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(run)
        file.flush()
