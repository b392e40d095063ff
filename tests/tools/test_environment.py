"""The environment is installed once, and again only for another lock. No pip runs here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tools import environment
from tools.paths import HANDLER

Command = list[str]

FROZEN = "pip==25.0\nruntime==1\nOpen_VINO==1\n"


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Command]:
    """A checkout with an environment and two locks; the value is the list of commands that would have run."""
    commands: list[Command] = []

    def run(command: list[Any], check: bool, **_: object) -> SimpleNamespace:
        if "list" not in command:
            commands.append([str(part) for part in command])
        return SimpleNamespace(stdout=FROZEN)

    for name, path in {
        "ROOT": "",
        "VENV": ".venv",
        "PYTHON": ".venv/bin/python",
        "REQUIREMENTS": "requirements",
    }.items():
        monkeypatch.setattr(environment, name, tmp_path / path)
    monkeypatch.setattr(subprocess, "run", run)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    (tmp_path / ".venv" / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    (tmp_path / "requirements").mkdir()
    for group in ("runtime", "dev"):
        (tmp_path / "requirements" / f"{group}.txt").write_text(f"{group}==1\n")
    return commands


def installed(commands: list[Command]) -> list[str]:
    return [Path(command[-1]).stem for command in commands]


def test_each_group_is_installed_once(commands: list[Command]) -> None:
    environment.main(["runtime"])
    environment.main(["runtime", "dev"])
    environment.main(["dev", "runtime"])
    assert installed(commands) == ["runtime", "dev"]
    assert {"--require-hashes", "--no-deps"} <= set(commands[0])


def test_says_what_is_downloaded_before_and_how_long_it_took_after(
    commands: list[Command], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = []

    def run(command: Command, check: bool) -> None:
        before.append(capsys.readouterr().out)
        assert "--quiet" in command

    monkeypatch.setattr(subprocess, "run", run)
    environment.main(["runtime", "dev"])
    about = "Installing requirements/runtime.txt (downloads about 3 GB, mostly CUDA libraries) … "
    assert before[0] == about
    assert re.fullmatch(r"\d+ s\nInstalling requirements/dev\.txt … ", before[1])
    assert re.fullmatch(r"\d+ s\n", capsys.readouterr().out)
    environment.main(["runtime"])
    assert capsys.readouterr().out == ""


def test_packages_of_the_checkout_are_importable(commands: list[Command], tmp_path: Path) -> None:
    assert environment.main(["runtime"]) == 0
    site_packages = tmp_path / ".venv" / "lib" / "python3.11" / "site-packages"
    assert (site_packages / "handler.pth").read_text().splitlines() == [str(HANDLER), str(tmp_path)]


def test_another_lock_is_installed(commands: list[Command], tmp_path: Path) -> None:
    environment.main(["runtime", "dev"])
    (tmp_path / "requirements" / "runtime.txt").write_text("runtime==2\n")
    environment.main(["runtime", "dev"])
    assert installed(commands) == ["runtime", "dev", "runtime"]


def test_exact_uninstalls_the_packages_of_other_groups(commands: list[Command], tmp_path: Path) -> None:
    (tmp_path / "requirements" / "openvino.txt").write_text("open-vino==1\n")
    environment.main(["runtime", "openvino"])
    commands.clear()
    environment.main(["runtime"])
    assert commands == []
    environment.main(["--exact", "runtime"])
    uninstall, install = commands
    assert uninstall[2:] == ["pip", "uninstall", "--quiet", "--yes", "Open_VINO"]
    assert installed([install]) == ["runtime"], "its versions may have been replaced"
    commands.clear()
    environment.main(["--exact", "runtime"])
    assert commands == []


def test_exact_uninstalls_what_a_lock_no_longer_has(commands: list[Command], tmp_path: Path) -> None:
    lock = tmp_path / "requirements" / "runtime.txt"
    lock.write_text("runtime==1\nopen.vino==1\n")
    environment.main(["--exact", "runtime"])
    lock.write_text("runtime==1\n")
    commands.clear()
    environment.main(["--exact", "runtime"])
    assert [command[3] for command in commands] == ["uninstall", "install"]
    assert commands[0][-1] == "Open_VINO"


def test_a_failed_installation_is_retried(commands: list[Command], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: Command, check: bool) -> None:
        raise subprocess.CalledProcessError(1, command)

    with monkeypatch.context() as failing:
        failing.setattr(subprocess, "run", fail)
        with pytest.raises(SystemExit, match="could not install the group 'runtime'"):
            environment.main(["runtime"])
    environment.main(["runtime"])
    assert installed(commands) == ["runtime"]


@pytest.mark.parametrize("groups", [[], ["run"], ["runtime", "test"]], ids=str)
def test_an_unknown_group_installs_nothing(commands: list[Command], groups: list[str]) -> None:
    with pytest.raises(SystemExit, match="one or more of dev, runtime"):
        environment.main(groups)
    assert commands == []


def test_an_old_python_is_rejected_with_advice(commands: list[Command], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    with pytest.raises(SystemExit, match=r"Python 3\.10 or newer is needed.*make PYTHON=python3\.10"):
        environment.main(["runtime"])
    assert commands == []
