"""Start to stop: no leftovers, no effect on other servers, and clear errors for archives that cannot load."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.encoding import encoded
from tests.support.http_client import get
from tests.support.own_network import OwnNetwork
from tests.support.served import Model, check, sample
from tools.archive.rewrite import read_config, reconfigure, rewrite
from tools.paths import ROOT
from tools.server import launch, logs
from tools.server.errors import ServerError
from tools.server.port_check import free_port
from tools.server.server import Server

PIXELS = sample(41)
IMAGE = encoded(PIXELS)


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files of this test's servers; `tmp_path` may be too long for their sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


@pytest.fixture
def started() -> Iterator[set[psutil.Process]]:
    """Check that no process in the set, and no new child process, outlives the test."""
    before = descendants()
    processes: set[psutil.Process] = set()
    yield processes
    assert alive(processes | (descendants() - before)) == []


def descendants() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def alive(processes: set[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# ----------------------------------------------------------------------------- two servers


def test_two_servers_are_independent(
    server: Server,
    squash: Model,
    own_archive: Path,
    own_network: OwnNetwork,
    temporary: Path,
    started: set[psutil.Process],
) -> None:
    before = descendants()
    pids = server.worker_pids("squash")
    port = free_port()

    with Server([own_archive], port) as second:
        started |= descendants() - before
        own = Model(second, "own", own_network.network, own_network.labels)
        (worker,) = second.worker_pids("own")
        names = " ".join(" ".join(process.cmdline()) for process in started)
        assert launch.JAVA_CLASS in names
        assert worker in {process.pid for process in started}
        assert list(temporary.iterdir())
        assert listening(port)
        assert listening(port + 1)
        # Another architecture; seven classes, with a comma and non-ASCII characters in their labels.
        check(own.predict(IMAGE, targets='"bee, honey",6', topk=7), own, PIXELS, [1, 6], topk=7)
        check(squash.predict(IMAGE), squash, PIXELS)
        assert get(f"{server.management_url}/models/own").status_code == 404
        assert get(f"{second.management_url}/models/squash").status_code == 404

    assert alive(started) == []
    assert not psutil.pid_exists(worker) or psutil.Process(worker) not in started
    assert [number for number in range(port, port + 5) if listening(number)] == []
    assert list(temporary.iterdir()) == []
    assert server.worker_pids("squash") == pids
    check(squash.predict(IMAGE), squash, PIXELS)


def test_port_in_use_is_reported_and_its_owner_survives(
    server: Server, squash: Model, own_archive: Path, temporary: Path, started: set[psutil.Process]
) -> None:
    port = int(server.inference_url.rpartition(":")[2])

    with pytest.raises(ServerError, match=str(port)), Server([own_archive], port):
        pass

    assert list(temporary.iterdir()) == []
    check(squash.predict(IMAGE), squash, PIXELS)


# ----------------------------------------------------------------------------- archives that cannot be loaded


@pytest.mark.parametrize("broken", ["code", pytest.param("settings", marks=pytest.mark.full)])
def test_archive_that_cannot_be_loaded_reports_why(
    broken: str, own_archive: Path, tmp_path: Path, temporary: Path, started: set[psutil.Process]
) -> None:
    archive = tmp_path / "broken.mar"
    if broken == "code":
        rewrite(own_archive, archive, {"gradcam/explain/cam.py": b"import no_such_package\n"})
        reason = "No module named 'no_such_package'"
    else:
        reconfigure(own_archive, archive, gradcam=read_config(own_archive)["gradcam"] | {"architektur": 1})
        reason = "unknown setting 'architektur'"
    port = free_port()

    with pytest.raises(ServerError) as failure, Server([archive], port):
        pass

    first = str(failure.value).splitlines()[0]
    assert first.startswith("broken")
    assert re.search(reason, first), str(failure.value)
    assert "ts.torch_handler" not in first
    assert list(temporary.iterdir()) == []
    assert [number for number in range(port, port + 5) if listening(number)] == []


# ----------------------------------------------------------------------------- the command


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.full)])
def test_command_serves_until_it_is_interrupted(
    number: signal.Signals,
    own_archive: Path,
    own_network: OwnNetwork,
    temporary: Path,
    started: set[psutil.Process],
) -> None:
    port = free_port()
    before = descendants()
    command: list[str | Path] = [sys.executable, ROOT / "scripts" / "serve.py", "--port", str(port), own_archive]
    log_dir = logs.log_dir_of(port)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            output = read_until(process, "own is ready", timeout=120)
            assert f"http://127.0.0.1:{port}/predictions/own" in output
            started |= descendants() - before
            assert len(started) >= 3  # the command, TorchServe's launcher, Java, a worker
            own = Model(Server([own_archive], port), "own", own_network.network, own_network.labels)
            check(own.predict(IMAGE), own, PIXELS)

            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.terminate()
            process.wait(timeout=60)
            shutil.rmtree(log_dir, ignore_errors=True)

    assert process.returncode == 0
    assert "Traceback" not in out + err
    assert alive(started) == []
    assert [port for port in range(port, port + 5) if listening(port)] == []
    assert list(temporary.iterdir()) == []


def read_until(process: subprocess.Popen[str], text: str, timeout: float) -> str:
    """Read the process's output until it contains a text, to the end of that line."""
    assert process.stdout is not None
    output = ""
    deadline = time.monotonic() + timeout
    while not (text in output and output.endswith("\n")):
        ready, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"no more output after: {output}"
        chunk = os.read(process.stdout.fileno(), 4096).decode()
        assert chunk, f"the command ended: {output} {process.stderr.read() if process.stderr else ''}"
        output += chunk
    return output


# ----------------------------------------------------------------------------- describe


def test_description_of_each_model(squash: Model, crop: Model, efficientnet: Model) -> None:
    metadata = {}
    for model in (squash, crop, efficientnet):
        url = f"{model.server.management_url}/models/{model.name}?customized=true"
        (version,) = get(url).json()
        metadata[model.name] = version["customizedMetadata"]
        assert metadata[model.name]["labels"] == list(model.labels)

    described = metadata["squash"]
    assert described["architecture"] == "resnet18"
    assert described["weights"] == "random (seed 0)"
    assert re.fullmatch("[0-9a-f]{64}", described["weights_sha256"])
    assert described["layer"] == "layer4.1.conv2"
    assert "gradcam" in described["methods"]
    assert {"layer4.1.conv2", "layer3"} <= set(described["layers"])
    assert described["device"].startswith(("cpu", "cuda"))
    assert described["versions"].keys() >= {"python", "torch", "torchvision"}
    assert (described["transform"], metadata["crop"]["transform"]) == ("squash", "crop")
    assert metadata["crop"]["weights"] == "crop.pth"
    # Two archives name their engine; the third uses the best one.
    assert {name: described["engine"] for name, described in metadata.items()} == {
        "squash": "eager",
        "crop": "eager",
        "efficientnet_lite0": "openvino",
    }


def test_describe_between_predictions(squash: Model) -> None:
    url = f"{squash.server.management_url}/models/squash?customized=true"
    for _ in range(3):
        assert get(url).status_code == 200
        check(squash.predict(IMAGE), squash, PIXELS)
