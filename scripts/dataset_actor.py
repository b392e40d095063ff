"""What runs on the nodes of a cluster for `explain_dataset.py`: an actor that makes Parquet files.

Ray carries this module and `dataset_engine` to the nodes by value; they import nothing else of this repository.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from dataset_engine import Engine, Row

RUN_FILE = "_run.json"

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


class Explainer:
    """Ray's actor: turns a table of pictures into a Parquet file, and says which.

    The file's name comes from the pictures' and it is there whole or not at all. So a table that Ray has done again,
    because an actor or a node was lost, makes the same file once more, or finds it made.
    """

    def __init__(self, archive: Any, program: str, options: dict[str, Any], root: str | None, output: str) -> None:
        """Starts the engine.

        Args:
            archive: Ray's reference to the bytes of the `.mar`.
            program: the text of `explain_worker.py`.
            options: what to ask about every picture.
            root: what relative paths begin at; None where the table has the pictures' bytes.
            output: folder for the Parquet files, the same for all nodes.

        Raises:
            FileNotFoundError: the node does not see that folder.
        """
        if not Path(output, RUN_FILE).exists():
            raise FileNotFoundError(f"{output}: node {os.uname().nodename} does not see this folder; it must be shared")
        self._engine = Engine(ray.get(archive), program, options)
        self._root, self._output = root, Path(output)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Explains the pictures of a table with the columns `path` and, where there is no root, `image`."""
        paths = table["path"].to_pylist()
        target = self._output / file_name(paths)
        if not target.exists():
            write(rows(paths, self._engine.answer(self._pictures(table))), target)
        done = pq.read_table(target, columns=["error"])
        errors = done.num_rows - done["error"].null_count
        return pa.table({"file": [target.name], "rows": [done.num_rows], "errors": [errors]})

    def _pictures(self, table: pa.Table) -> list[bytes | str]:
        if self._root is None:
            return [image or b"" for image in table["image"].to_pylist()]
        return [os.path.join(self._root, path) for path in table["path"].to_pylist()]


def file_name(paths: Sequence[str]) -> str:
    """Returns the name of the file for these pictures: the same for the same, another one for any other."""
    return f"part-{hashlib.sha256(json.dumps(list(paths)).encode()).hexdigest()[:32]}.parquet"


def rows(paths: Sequence[str], answers: Sequence[Row]) -> pa.Table:
    """Returns the table of answers."""
    return pa.Table.from_pylist(
        [{"path": path, **answer} for path, answer in zip(paths, answers, strict=True)], schema=SCHEMA
    )


def write(table: pa.Table, target: Path) -> None:
    """Writes a Parquet file in one step, so that nobody ever finds half of it."""
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    with partial.open("wb") as file:
        pq.write_table(table, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(target)
