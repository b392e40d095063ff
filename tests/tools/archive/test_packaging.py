"""What is packed, and that torch-model-archiver's failures are reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.archive.packaging import ArchiverError, Parts, copy_code, deliver, run_archiver


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")


def test_code_of_new_sub_packages_is_packed_at_any_depth(tmp_path: Path) -> None:
    code = {"entry.py", "gradcam/__init__.py", "gradcam/new/__init__.py", "gradcam/new/deeper/module.py"}
    write(tmp_path / "handler", *code)
    copy_code(tmp_path / "handler", tmp_path / "contents")
    assert files_in(tmp_path / "contents") == code


@pytest.mark.parametrize(
    "stray",
    [
        "__pycache__/entry.cpython-311.pyc",
        "gradcam/new/__pycache__/module.cpython-311.pyc",
        "gradcam/new/__pycache__/module.py",
        ".hidden.py",
        ".cache/module.py",
        "gradcam/.cache/module.py",
        "gradcam/new/.cache/deeper/module.py",
        "gradcam/new/module.py~",
        "gradcam/notes.txt",
    ],
)
def test_caches_hidden_files_and_others_stay_out_at_any_depth(tmp_path: Path, stray: str) -> None:
    code = {"entry.py", "gradcam/__init__.py", "gradcam/new/module.py"}
    write(tmp_path / "handler", *code, stray)
    copy_code(tmp_path / "handler", tmp_path / "contents")
    assert files_in(tmp_path / "contents") == code


def test_a_failure_of_the_archiver_has_its_message(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "no.py", tmp_path / "no.pth", tmp_path / "no.yaml", tmp_path)
    with pytest.raises(ArchiverError, match=r"^torch-model-archiver failed: (.|\n)*no\."):
        run_archiver(tmp_path, "m", parts)


def test_a_delivered_archive_replaces_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    target = tmp_path / "store" / "m.mar"
    write(tmp_path, "store/m.mar")
    assert deliver(tmp_path / "new", target) == target
    assert (target.read_text(), files_in(tmp_path / "store")) == ("new", {"m.mar"})
