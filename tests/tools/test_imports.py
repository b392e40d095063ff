"""Packages of `tools` import only the packages below them, and each describes its modules."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tools.paths import ROOT

TOOLS = ROOT / "tools"
BASE = {"paths", "ports", "sessions"}
# Package or module, and what it may import besides BASE and itself.
ALLOWED: dict[str, set[str]] = {
    "paths": set(),
    "ports": set(),
    "sessions": set(),
    "environment": set(),
    "diagram": set(),
    "release": set(),
    "archive": set(),
    "server": set(),
    "image": set(),
    "client": {"server"},
    "load": {"archive", "client", "server"},
    "lens": {"archive", "client", "server"},
    "evaluation": {"archive", "client", "server"},
    "export": {"archive", "server"},
    "bulk": {"client", "server"},
    "demo": {"archive", "client", "server"},
    "benchmarks": {"archive", "client", "export", "load", "server"},
}


def packages() -> dict[str, list[Path]]:
    """Return the modules of each package, and single modules."""
    found = {path.stem: [path] for path in TOOLS.glob("*.py") if path.stem != "__init__"}
    return found | {path.parent.name: sorted(path.parent.rglob("*.py")) for path in TOOLS.glob("*/__init__.py")}


def imported(path: Path) -> set[str]:
    """Return the packages and modules of `tools` that a module imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "tools":
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tools."):
            names.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {name.name.split(".")[1] for name in node.names if name.name.startswith("tools.")}
    return names


def test_every_package_has_a_rule() -> None:
    assert packages().keys() == ALLOWED.keys()


@pytest.mark.parametrize("name", ALLOWED)
def test_imports_point_down(name: str) -> None:
    for path in packages()[name]:
        assert imported(path) <= ALLOWED[name] | BASE | {name}, path


@pytest.mark.parametrize("name", sorted(path.parent.name for path in TOOLS.glob("*/__init__.py")))
def test_a_package_describes_its_modules_and_exports_nothing(name: str) -> None:
    tree = ast.parse((TOOLS / name / "__init__.py").read_text())
    assert "TODO" not in (ast.get_docstring(tree) or "TODO")
    assert len(tree.body) == 1


@pytest.mark.parametrize("path", sorted(TOOLS.rglob("*.py")), ids=lambda path: str(path.relative_to(TOOLS)))
def test_modules_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
