"""The files of `explain_dataset.py`: which pictures there are, and which the output has already."""

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
    """Input or output cannot be used; the message says why."""


class UnfinishedError(Exception):
    """The output does not have what it should; the message says what."""


@dataclass(frozen=True)
class Source:
    """Pictures to explain: files, or a column of bytes."""

    paths: list[str]
    """What names each picture, once."""
    root: Path | None
    """What relative paths begin at; None where the table has the pictures' bytes."""


# ----------------------------------------------------------------------------- input


def read_source(given: Path, path_column: str, image_column: str | None) -> Source:
    """Lists the pictures of a folder or a table.

    Raises:
        DatasetError: there is none, or the table has no such columns, or not what should be in them.
    """
    if given.is_dir():
        return Source(pictures_below(given), given.absolute())
    if given.suffix.lower() not in TABLES:
        raise DatasetError(f"{given}: neither a folder nor a table (*{', *'.join(sorted(TABLES))})")
    if image_column is not None and given.suffix.lower() != ".parquet":
        raise DatasetError(f"{given}: only Parquet has columns of bytes")
    try:
        paths = read_column(given, path_column, image_column)
    except (OSError, pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise DatasetError(f"{given}: {error}") from error
    names = checked_names(given, path_column, paths, unique=image_column is not None)
    return Source(names, given.absolute().parent if image_column is None else None)


def pictures_below(folder: Path) -> list[str]:
    """Lists the pictures below a folder by their paths from there, sorted."""
    files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    paths = sorted(printable(str(path.relative_to(folder))) for path in files)
    if not paths:
        raise DatasetError(f"no picture in folder: {folder} (looked for *{', *'.join(sorted(SUFFIXES))})")
    return paths


def printable(name: str) -> str:
    """Returns a file's name as Unicode; the bytes that are none stay recognisable, but the file will not be found."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def read_column(table: Path, path_column: str, image_column: str | None) -> list[str | None]:
    """Reads the names of the pictures."""
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
    """Checks that a table has a column of one of these types.

    Raises:
        DatasetError: it has not.
    """
    if column not in schema.names:
        raise DatasetError(f"{table} has no column {column!r} (columns are {', '.join(schema.names)})")
    if (found := schema.field(column).type) not in types:
        raise DatasetError(f"{table}: column {column!r} must be of type {types[0]}, not {found}")


def checked_names(table: Path, column: str, paths: Sequence[str | None], *, unique: bool) -> list[str]:
    """Returns what names the pictures, each name once.

    Raises:
        DatasetError: there is none, one is missing, or two are the same where they must not be.
    """
    if not paths:
        raise DatasetError(f"{table} has no rows")
    counted = Counter(path for path in paths if path)
    if missing := len(paths) - counted.total():
        raise DatasetError(f"{table}: column {column!r} is empty in {missing:,} of {len(paths):,} rows")
    name, count = counted.most_common(1)[0]
    if unique and count > 1:
        raise DatasetError(f"{table}: column {column!r} names {count:,} pictures {name!r}; names must differ")
    return list(counted)


# ----------------------------------------------------------------------------- output


@contextmanager
def exclusive(output: Path, made_by: dict[str, Any]) -> Iterator[str]:
    """Holds an output folder for one run, and sees that all of it is made in the same way; yields the run's name.

    Args:
        output: the folder; made if need be.
        made_by: what the rows depend on, besides the pictures.

    Raises:
        DatasetError: another run is at work there, or something else was made there.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = (output / LOCK_FILE).open("w")
    except OSError as error:
        raise DatasetError(f"{output} cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DatasetError(f"{output}: another run is writing there") from error
        check_run(output, made_by)
        run = uuid.uuid4().hex
        own(output, run)
        for left in output.glob(".part-*"):
            left.unlink(missing_ok=True)
        yield run


def check_run(output: Path, made_by: dict[str, Any]) -> None:
    """Compares what is in the folder with what is going to be, and notes it down in an empty one.

    Raises:
        DatasetError: they differ.
    """
    run = output / RUN_FILE
    if not run.exists():
        partial = output / f".{RUN_FILE}"
        partial.write_text(json.dumps(made_by, indent=1), encoding="utf-8")
        partial.replace(run)
    before = json.loads(run.read_text(encoding="utf-8"))
    if changed := [key for key in sorted({*before, *made_by}) if before.get(key) != made_by.get(key)]:
        raise DatasetError(
            f"{output} was made with another {' and '.join(changed)} (see {run}); name another folder with --output"
        )


def read_done(output: Path) -> Counter[str]:
    """Counts the rows of each picture in the output, which should be one."""
    done: Counter[str] = Counter()
    for part in sorted(output.glob("part-*.parquet")):
        done.update(pq.read_table(part, columns=["path"])["path"].to_pylist())
    return done


def check_written(output: Path, paths: Sequence[str]) -> None:
    """Checks that every picture has one row: what a run says of itself, the files must say too.

    Raises:
        UnfinishedError: one has none, or several.
    """
    rows = read_done(output)
    missing, twice = [path for path in paths if path not in rows], [path for path in paths if rows[path] > 1]
    if missing or twice:
        raise UnfinishedError(
            f"{output}: {len(missing):,} pictures have no row, {len(twice):,} have several: {[*missing, *twice][:3]}"
        )


def count_errors(output: Path) -> Counter[str]:
    """Counts the errors in the output by their codes."""
    codes: Counter[str] = Counter()
    for part in sorted(output.glob("part-*.parquet")):
        errors = pq.read_table(part, columns=["error"])["error"].to_pylist()
        codes.update(error["code"] for error in errors if error is not None)
    return codes
