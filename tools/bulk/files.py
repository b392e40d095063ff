"""The files of `explain_dataset.py`: the images to explain, and the rows that the output already has."""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from tools.bulk.actor import own
from tools.client.files import SUFFIXES

TABLES = frozenset({".csv", ".parquet"})
LOCK_FILE = ".lock"
RUN_FILE = "_run.json"


class DatasetError(Exception):
    """Input or output cannot be used, for the reason in the message."""


class UnfinishedError(Exception):
    """The output is incomplete, as the message explains."""


@dataclass(frozen=True)
class Source:
    """Images to explain: files, or a column of bytes.

    Attributes:
        paths: names of the images, each once.
        root: folder that paths are relative to; None if the table contains the images' bytes.
    """

    paths: list[str]
    root: Path | None


# ----------------------------------------------------------------------------- input


def read_source(path: Path, path_column: str, image_column: str | None) -> Source:
    """List the images of a folder or a table.

    Raises:
        DatasetError: there are none, or the table's columns are missing or invalid.
    """
    if path.is_dir():
        return Source(images_below(path), path.absolute())
    if path.suffix.lower() not in TABLES:
        raise DatasetError(f"{path} must be a folder or a table (*{', *'.join(sorted(TABLES))})")
    if image_column is not None and path.suffix.lower() != ".parquet":
        raise DatasetError(f"{path}: only Parquet tables can contain images as bytes")
    try:
        names = read_column(path, path_column, image_column)
    except (OSError, pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise DatasetError(f"{path}: {error}") from error
    paths = checked_names(path, path_column, names, unique=image_column is not None)
    return Source(paths, path.absolute().parent if image_column is None else None)


def images_below(folder: Path) -> list[str]:
    """Return the sorted paths of all images below a folder, relative to it."""
    files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    paths = sorted(printable(str(path.relative_to(folder))) for path in files)
    if not paths:
        raise DatasetError(f"No image in folder: {folder} (looked for *{', *'.join(sorted(SUFFIXES))})")
    return paths


def printable(name: str) -> str:
    """Return a file's name as valid Unicode; a name with other bytes stays recognizable, but cannot be opened."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def read_column(table: Path, path_column: str, image_column: str | None) -> list[str | None]:
    """Read the names of the images."""
    if table.suffix.lower() == ".csv":
        convert = pc.ConvertOptions(include_columns=[path_column], column_types={path_column: pa.string()})
        column = pc.read_csv(table, convert_options=convert)[path_column]
    else:
        schema = pq.read_schema(table)
        check_type(table, schema, path_column, (pa.string(), pa.large_string()))
        if image_column is not None:
            check_type(table, schema, image_column, (pa.binary(), pa.large_binary()))
        column = pq.read_table(table, columns=[path_column])[path_column]
    paths: list[str | None] = column.to_pylist()
    return paths


def check_type(table: Path, schema: pa.Schema, column: str, types: Sequence[pa.DataType]) -> None:
    """Check that a table has a column of one of these types.

    Raises:
        DatasetError: it has no such column.
    """
    if column not in schema.names:
        raise DatasetError(f"{table} has no column {column!r}; its columns are {', '.join(schema.names)}")
    if (actual := schema.field(column).type) not in types:
        raise DatasetError(f"{table}: column {column!r} must be of type {types[0]}, got {actual}")


def checked_names(table: Path, column: str, paths: Sequence[str | None], *, unique: bool) -> list[str]:
    """Return the images' names, each once.

    Raises:
        DatasetError: there are none, one is missing, or two are equal although names must be unique.
    """
    if not paths:
        raise DatasetError(f"{table} has no rows")
    counted = Counter(path for path in paths if path)
    if missing := len(paths) - counted.total():
        raise DatasetError(f"{table}: column {column!r} is empty in {missing:,} of {len(paths):,} rows")
    name, count = counted.most_common(1)[0]
    if unique and count > 1:
        raise DatasetError(f"{table}: column {column!r} has {count:,} images named {name!r}; names must be unique")
    return list(counted)


# ----------------------------------------------------------------------------- output


@contextmanager
def exclusive(output: Path, provenance: dict[str, Any]) -> Iterator[str]:
    """Lock an output folder for one run; yield the run's name.

    Args:
        output: the folder; created if it does not exist.
        provenance: what the rows depend on besides the images.

    Raises:
        DatasetError: another run is writing there, or earlier rows have another provenance.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = (output / LOCK_FILE).open("w")
    except OSError as error:
        raise DatasetError(f"Cannot write to {output}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DatasetError(f"Another run is writing to {output}") from error
        check_run(output, provenance)
        run = uuid.uuid4().hex
        own(output, run)
        for partial in output.glob(".part-*"):
            partial.unlink(missing_ok=True)
        yield run


def check_run(output: Path, provenance: dict[str, Any]) -> None:
    """Compare a run's provenance with that of earlier rows; record it in an empty folder.

    Raises:
        DatasetError: they differ.
    """
    run = output / RUN_FILE
    if not run.exists():
        partial = output / f".{RUN_FILE}"
        partial.write_text(json.dumps(provenance, indent=1), encoding="utf-8")
        partial.replace(run)
    before = json.loads(run.read_text(encoding="utf-8"))
    if changed := [key for key in sorted({*before, *provenance}) if before.get(key) != provenance.get(key)]:
        raise DatasetError(
            f"{output} contains rows from another {' and '.join(changed)} (see {run}); choose another --output"
        )


def read_done(output: Path) -> Counter[str]:
    """Count the rows of each image in the output; each should have one."""
    done: Counter[str] = Counter()
    for part in sorted(output.glob("part-*.parquet")):
        done.update(pq.read_table(part, columns=["path"])["path"].to_pylist())
    return done


def check_written(output: Path, paths: Sequence[str]) -> None:
    """Check in the files that every image has one row.

    Raises:
        UnfinishedError: an image has no row, or several.
    """
    rows = read_done(output)
    missing, repeated = [path for path in paths if path not in rows], [path for path in paths if rows[path] > 1]
    if missing or repeated:
        raise UnfinishedError(
            f"{output}: {len(missing):,} images have no row, {len(repeated):,} have several: "
            f"{[*missing, *repeated][:3]}"
        )


def count_errors(output: Path) -> Counter[str]:
    """Count the errors in the output by code."""
    codes: Counter[str] = Counter()
    for part in sorted(output.glob("part-*.parquet")):
        errors = pq.read_table(part, columns=["error"])["error"].to_pylist()
        codes.update(error["code"] for error in errors if error is not None)
    return codes
