"""Ray's actor for `explain_dataset.py`: runs on the nodes of a cluster and writes Parquet files.

`explain_dataset.connect` makes Ray ship this package to the nodes, which need only the installed packages.
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

from tools.bulk.worker_process import OutputRow, WorkerProcess

OWNER_FILE = ".owner"

CLASS = [("index", pa.int32()), ("label", pa.string()), ("probability", pa.float32())]
BOX = [("box", pa.list_(pa.int32())), ("area", pa.int32()), ("mean", pa.float32())]
EXPLANATION = [
    ("evidence", pa.bool_()),
    ("peak", pa.list_(pa.int32())),
    ("heatmap", pa.list_(pa.list_(pa.float32()))),
    ("strength", pa.float32()),
    ("versus", pa.struct(CLASS)),
    ("boxes", pa.list_(pa.struct(BOX))),
]
MODEL = pa.struct([("name", pa.string()), ("version", pa.string()), ("weights", pa.string())])
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
        ("model", MODEL),
        ("label", pa.string()),
        ("probability", pa.float32()),
    ]
)


class Superseded(Exception):
    """Another run has begun to write into the folder."""


@dataclass(frozen=True)
class BulkJob:
    """The job of a run's actors.

    Attributes:
        program: source code of `worker.py`.
        options: of the request for every image.
        root: folder that paths are relative to; None if the table contains the images' bytes.
        output: folder of the Parquet files, which all nodes share.
        run: the run that the files belong to.
    """

    program: str
    options: dict[str, Any]
    root: str | None
    output: str
    run: str


class BulkActor:
    """Ray's actor: writes the explanations of a table of images to a Parquet file, and returns its name.

    The file's name depends only on the images, and the file is written atomically. So when Ray repeats a table because
    an actor or a node was lost, the actor writes the same file again or finds it complete.
    """

    def __init__(self, archive: Any, job: BulkJob) -> None:
        """Start the worker process.

        Args:
            archive: Ray's reference to the bytes of the `.mar`.
            job: what to do.

        Raises:
            FileNotFoundError: the node cannot see the output folder.
        """
        self._job, self._output = job, Path(job.output)
        if not (self._output / OWNER_FILE).exists():
            raise FileNotFoundError(f"Node {os.uname().nodename} cannot see {job.output}: all nodes must share it")
        self._process = WorkerProcess(ray.get(archive), job.program, job.options)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Explain the images of a table with the columns `path` and, without a root, `image`."""
        paths = table["path"].to_pylist()
        target = self._output / file_name(paths)
        if not target.exists():
            write(rows(paths, self._process.explain(self._images(table))), target, self._job.run)
        written = pq.read_table(target, columns=["error"])
        errors = written.num_rows - written["error"].null_count
        return pa.table({"file": [target.name], "rows": [written.num_rows], "errors": [errors]})

    def _images(self, table: pa.Table) -> list[bytes | str]:
        if self._job.root is None:
            return [image or b"" for image in table["image"].to_pylist()]
        return [os.path.join(self._job.root, path) for path in table["path"].to_pylist()]


def file_name(paths: Sequence[str]) -> str:
    """Return the name of the file for these images: equal for equal lists, different for any other."""
    return f"part-{hashlib.sha256(json.dumps(list(paths)).encode()).hexdigest()[:32]}.parquet"


def rows(paths: Sequence[str], answers: Sequence[OutputRow]) -> pa.Table:
    """Return the output table of images and their answers."""
    return pa.Table.from_pylist(
        [{"path": path, **answer} for path, answer in zip(paths, answers, strict=True)], schema=SCHEMA
    )


def write(table: pa.Table, target: Path, run: str) -> None:
    """Write a Parquet file atomically.

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
    """Keep the folder's owner unchanged during the block.

    An actor outlives a killed command by some seconds. The next run would not know of files that the actor writes then,
    and would explain their images a second time.

    Raises:
        Superseded: the folder belongs to another run.
    """
    with (output / OWNER_FILE).open(encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        if (owner := file.read()) != run:
            raise Superseded(f"{output} belongs to run {owner}, not to {run}")
        yield


def own(output: Path, run: str) -> None:
    """Make a run the folder's owner; afterwards, no actor of an earlier run writes there."""
    with (output / OWNER_FILE).open("a", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(run)
        file.flush()
