"""What `explain_dataset.py` reads and writes, without running Ray."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed: make dataset-test")

import pyarrow as pa
import pyarrow.parquet as pq

from tools.bulk.actor import SCHEMA, Superseded, file_name, own, rows, write
from tools.bulk.files import (
    DatasetError,
    Source,
    UnfinishedError,
    check_written,
    count_errors,
    exclusive,
    read_done,
    read_source,
)


def full_disk(table: pa.Table, file: io.BufferedWriter) -> None:
    file.write(b"PAR1")
    raise OSError(errno.ENOSPC, "No space left on device")


PROVENANCE = {"archive": "abc", "options": {"explain": "2"}, "root": "/images"}


def test_folder_lists_its_images_by_relative_path(tmp_path: Path) -> None:
    for name in ("b.JPG", "sub/a.png", "notes.txt", "sub/Straße.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / os.fsdecode(b"caf\xe9.gif")).touch()
    source = read_source(tmp_path, "path", None)
    assert source == Source(["b.JPG", "caf\\xe9.gif", "sub/Straße.webp", "sub/a.png"], tmp_path)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_table_lists_its_paths_each_once(tmp_path: Path, suffix: str) -> None:
    table = tmp_path / f"table.{suffix}"
    if suffix == "csv":
        table.write_text('id,file\n1,b.jpg\n2,"a, b.jpg"\n3,b.jpg\n', encoding="utf-8")
    else:
        pq.write_table(pa.table({"id": [1, 2, 3], "file": ["b.jpg", "a, b.jpg", "b.jpg"]}), table)
    assert read_source(table, "file", None) == Source(["b.jpg", "a, b.jpg"], tmp_path)


def test_table_of_bytes_lists_its_names(tmp_path: Path) -> None:
    table = tmp_path / "table.parquet"
    pq.write_table(pa.table({"name": ["x", "y"], "image": [b"1", None]}), table)
    assert read_source(table, "name", "image") == Source(["x", "y"], None)


@pytest.mark.parametrize(
    ("columns", "image_column", "message"),
    [
        ({"id": ["a"]}, None, "has no column 'path'; its columns are id"),
        ({"path": [1]}, None, "column 'path' must be of type string, got int64"),
        ({"path": ["a"], "image": ["a"]}, "image", "column 'image' must be of type binary, got string"),
        ({"path": pa.array([], pa.string())}, None, "has no rows"),
        ({"path": ["a", None, ""]}, None, "column 'path' is empty in 2 of 3 rows"),
        ({"path": ["a", "b", "a"], "image": [b"", b"", b""]}, "image", "has 2 images named 'a'; names must be unique"),
    ],
)
def test_invalid_table_is_rejected(
    tmp_path: Path, columns: dict[str, object], image_column: str | None, message: str
) -> None:
    table = tmp_path / "table.parquet"
    pq.write_table(pa.table(columns), table)
    with pytest.raises(DatasetError) as caught:
        read_source(table, "path", image_column)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["none.csv", "broken.parquet", "image.jpg", "empty", "ragged.csv"])
def test_invalid_dataset_is_rejected(tmp_path: Path, name: str) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "image.jpg").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "ragged.csv").write_text("path,id\na\nb,1,2\n")
    with pytest.raises(DatasetError, match=name):
        read_source(tmp_path / name, "path", None)


def test_file_is_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = rows(["a", "b"], [{"width": 3, "layers": ["l"]}, {"error": {"code": "c", "message": "m"}}])
    target = tmp_path / file_name(["a", "b"])
    own(tmp_path, "run")
    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", full_disk)
        with pytest.raises(OSError, match="No space left"):
            write(table, target, "run")
    assert read_done(tmp_path) == {}
    write(table, target, "run")
    assert pq.read_table(target).schema.equals(SCHEMA)
    assert pq.read_table(target).to_pylist()[0]["width"] == 3
    assert read_done(tmp_path) == {"a": 1, "b": 1}
    assert count_errors(tmp_path) == {"c": 1}


def test_file_name_depends_on_the_images_and_their_order() -> None:
    names = {file_name(paths) for paths in (["a", "b"], ["b", "a"], ["a"], ["a,b"], ["a, b"])}
    assert len(names) == 5
    assert file_name(["a", "b"]) == file_name(["a", "b"])


def test_image_without_a_row_or_with_two_is_detected(tmp_path: Path) -> None:
    own(tmp_path, "run")
    write(rows(["a", "b"], [{}, {}]), tmp_path / "part-1.parquet", "run")
    check_written(tmp_path, ["a", "b"])
    with pytest.raises(UnfinishedError, match=r"1 images have no row, 0 have several: \['c'\]"):
        check_written(tmp_path, ["a", "b", "c"])
    write(rows(["b"], [{}]), tmp_path / "part-2.parquet", "run")
    with pytest.raises(UnfinishedError, match=r"0 images have no row, 1 have several: \['b'\]"):
        check_written(tmp_path, ["a", "b"])


def test_output_is_locked_by_one_run(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path / "out", PROVENANCE),
        pytest.raises(DatasetError, match="Another run is writing to"),
        exclusive(tmp_path / "out", PROVENANCE),
    ):
        pass
    with exclusive(tmp_path / "out", PROVENANCE):
        pass


def test_output_has_one_provenance(tmp_path: Path) -> None:
    with exclusive(tmp_path, PROVENANCE):
        assert json.loads((tmp_path / "_run.json").read_text()) == PROVENANCE
    other = {**PROVENANCE, "archive": "abd", "options": {}}
    with (
        pytest.raises(DatasetError, match="from another archive and options"),
        exclusive(tmp_path, other),
    ):
        pass


def test_partial_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    partial, complete = tmp_path / ".part-1.parquet.x", tmp_path / "part-1.parquet"
    partial.touch()
    own(tmp_path, "run")
    write(rows(["a"], [{}]), complete, "run")
    with exclusive(tmp_path, PROVENANCE):
        assert not partial.exists()
        assert read_done(tmp_path) == {"a": 1}


def test_actor_that_outlives_its_run_writes_nothing(tmp_path: Path) -> None:
    with exclusive(tmp_path, PROVENANCE) as first:
        write(rows(["a"], [{}]), tmp_path / "part-1.parquet", first)
    with exclusive(tmp_path, PROVENANCE) as second:
        with pytest.raises(Superseded, match=f"belongs to run {second}, not to {first}"):
            write(rows(["b"], [{}]), tmp_path / "part-2.parquet", first)
        write(rows(["c"], [{}]), tmp_path / "part-3.parquet", second)
    assert read_done(tmp_path) == {"a": 1, "c": 1}
