"""Every command of the README, run as it stands there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tools.paths import ROOT
from tools.server.port_check import free_port

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines() if line[:1] != "#"
]
SERVE = "make serve MODEL=efficientnet_lite0"
PORT = "8080"
METRICS_PORT = "8082"
START_SECONDS = 200

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="the README's commands need curl")


def environment() -> dict[str, str]:
    """A user's: without what the make that runs these tests passes on."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=280
    )


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where `make serve` serves, for as long as the commands need it."""
    port = free_port()
    said = tmp_path_factory.mktemp("readme") / "said"
    with said.open("w") as output:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {SERVE} PORT={port}"],
            cwd=ROOT,
            env=environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while "Ctrl-C stops the server." not in said.read_text():
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.2)
        yield str(port)
    finally:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal's Ctrl-C does
        process.wait(timeout=60)


def test_there_is_nothing_that_these_tests_do_not_run() -> None:
    known = ("make demo", SERVE, "curl ", "scripts/predict.py ", "scripts/build_mar.py ", "scripts/healthcheck.py ")
    assert COMMANDS
    assert [command for command in COMMANDS if not command.startswith(known)] == []


def test_make_demo() -> None:
    done = shell("make demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ \S.*\d\d\.\d\d%", done.stdout), "labels and probabilities"
    assert "build/demo" in done.stdout
    assert list((ROOT / "build" / "demo").glob("chelsea.*.jpg"))


@pytest.mark.parametrize("command", [command for command in COMMANDS if not command.startswith("make")])
def test_command(command: str, port: str) -> None:
    # The client's default address is port 8080, which may be somebody else's while these tests run.
    client = command.startswith(("scripts/predict.py", "scripts/healthcheck.py"))
    address = f" --url http://127.0.0.1:{port}" if client else ""
    done = shell(command.replace(PORT, port).replace(METRICS_PORT, str(int(port) + 2)) + address)
    assert done.returncode == 0, done.stdout + done.stderr
    if command.startswith("scripts/predict.py"):
        assert "Egyptian cat" in done.stdout
    elif command.endswith("overlay.png"):
        assert (ROOT / "build" / "overlay.png").read_bytes().startswith(b"\x89PNG")
    elif METRICS_PORT in command:
        assert "gradcam_trunk_seconds_count" in done.stdout
    elif command.startswith("curl"):
        answer = json.loads(done.stdout)
        if "/v1/models/" in command:
            (answer,) = answer["predictions"]
        assert answer["explanations"][0]["evidence"] is True


def test_the_answer_is_the_one_that_is_shown(port: str) -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", README, re.S)
    answer: dict[str, Any] = json.loads(
        shell(next(command for command in COMMANDS if command.startswith("curl -T")).replace(PORT, port)).stdout
    )
    expected = json.loads(re.sub(r", …", "", shown))
    for ours, theirs in zip(answer["predictions"], expected["predictions"], strict=False):
        assert (ours["index"], ours["label"]) == (theirs["index"], theirs["label"])
        assert ours["probability"] == pytest.approx(theirs["probability"], abs=1e-4)
    assert answer["explanations"][0]["heatmap"][0] == pytest.approx(expected["explanations"][0]["heatmap"][0], abs=1e-4)
    for key in ("index", "label", "evidence", "peak"):
        assert answer["explanations"][0][key] == expected["explanations"][0][key]
    assert {key: answer[key] for key in ("method", "layer", "image")} == {
        key: expected[key] for key in ("method", "layer", "image")
    }
