"""Who knows whom: the layers of the design, held."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

HANDLER = Path(__file__).resolve().parents[2] / "handler"
MODULES = {path.stem: path for path in HANDLER.rglob("*.py") if path.stem != "__init__"}

# What each module may import of ours; a new module has to find its place here.
KNOWS = {
    "errors": set(),
    "cam": set(),
    "machine": set(),
    "onednn": set(),
    "layout": set(),
    "settings": {"errors"},
    "jpeg": set(),
    "images": {"errors", "jpeg", "settings"},
    "nvjpeg": {"images", "settings"},
    "options": {"errors"},
    "message": {"errors", "images", "options"},
    "plain": {"errors", "message", "options"},
    "kserve": {"errors", "message", "options", "plain"},
    "wire": {"errors", "kserve", "message", "plain"},
    "overlay": {"errors", "images", "options"},
    "network": {"errors", "layout"},
    "split": {"layout", "network"},
    "engines": {"cam", "onednn", "settings", "split"},
    "explainer": {"cam", "split"},
    "pipeline": {
        "cam",
        "engines",
        "errors",
        "explainer",
        "images",
        "message",
        "network",
        "nvjpeg",
        "options",
        "overlay",
        "settings",
        "split",
    },
    "gradcam_handler": {"cam", "errors", "kserve", "machine", "message", "pipeline", "settings", "wire"},
}
ONLY_IN = {"ts": {"gradcam_handler"}, "cv2": {"overlay"}, "PIL": {"images"}, "torchcodec": {"nvjpeg"}}


def imported(path: Path) -> set[str]:
    """Returns `gradcam`'s modules by their own names, all others by the name of their package."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "gradcam":
            names |= {f"gradcam.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return {name.removeprefix("gradcam.").split(".")[0] for name in names}


def test_every_module_has_its_place() -> None:
    assert set(MODULES) == set(KNOWS)


@pytest.mark.parametrize("module", KNOWS)
def test_a_module_imports_only_what_it_may_know(module: str) -> None:
    assert imported(MODULES[module]) & set(KNOWS) <= KNOWS[module]


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_package_is_imported_only_in_its_place(package: str) -> None:
    assert {name for name, path in MODULES.items() if package in imported(path)} == ONLY_IN[package]
