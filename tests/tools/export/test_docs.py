"""The commands of docs/export.md, in their order, with the weights that are a package."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.server.test_docs import blocks, commands
from tools.paths import ROOT

COMMANDS = [
    command.text
    for block in blocks(ROOT / "docs" / "export.md")
    if block.language == "sh"
    for command in commands(block)
    if command.text.startswith(("scripts/build_mar.py ", "scripts/export.py ", ".venv/bin/python "))
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    for path in ROOT.iterdir():
        if path.name not in ("build", ".git"):
            (folder / path.name).symlink_to(path)
    (folder / "build").mkdir()
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, workspace: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", command], cwd=workspace, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if "examples/export/" in command:
        assert done.stdout.startswith("Egyptian cat: 0."), done.stdout
        assert (workspace / command.rsplit(maxsplit=1)[-1]).is_file()


def test_the_commands_show_every_format_and_client() -> None:
    text = "\n".join(COMMANDS)
    for part in ("onnx", "openvino", "triton", "model-server", "with_onnxruntime.py", "with_openvino.py"):
        assert part in text
