"""Every script is a thin entry point: usage first, then `main(arguments) -> int` from `tools`."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from tools.paths import ROOT

SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))


def imported_main(path: Path) -> str:
    """Return the module from which a script imports `main`."""
    tree = ast.parse(path.read_text())
    (module,) = (
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and [name.name for name in node.names] == ["main"]
    )
    assert module is not None
    return module


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_executable_and_opens_with_its_usage(path: Path) -> None:
    assert os.access(path, os.X_OK)
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring is not None
    assert f"scripts/{path.name}" in docstring


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_main_takes_arguments_and_returns_the_exit_status(path: Path) -> None:
    module = imported_main(path)
    assert module.startswith("tools.")
    tree = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text())
    (main,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    assert (ast.unparse(main.args), ast.unparse(main.returns or main)) == (
        "arguments: Sequence[str] | None=None",
        "int",
    )


def test_nothing_imports_a_script() -> None:
    names = {path.stem for path in SCRIPTS}
    for folder in ("handler", "kserve_grpc", "lens", "scripts", "tools", "docker", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                modules = (
                    [name.name for name in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                    if isinstance(node, ast.ImportFrom) and node.level == 0
                    else []
                )
                assert not [name for name in modules if name.split(".")[0] in {"scripts", *names}], path
