"""Who knows whom: the layers of the design, held."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

HANDLER = Path(__file__).resolve().parents[2] / "handler"
MODULES = {
    ".".join(path.relative_to(HANDLER).with_suffix("").parts).removeprefix("gradcam."): path
    for path in HANDLER.rglob("*.py")
    if path.stem != "__init__"
}

# What each module may import of ours; a new module has to find its place here.
KNOWS = {
    "errors": set(),
    "explain.cam": set(),
    "machine": set(),
    "engines.onednn": set(),
    "network.layout": set(),
    "settings": {"errors"},
    "images.jpeg": set(),
    "images.geometry": {"settings"},
    "images.formats": {"errors"},
    "images.limits": {"errors", "images.formats", "images.jpeg", "settings"},
    "images.orientation": {"errors"},
    "images.model_input": {"images.geometry", "settings"},
    "images.decoding": {
        "errors",
        "images.formats",
        "images.geometry",
        "images.jpeg",
        "images.limits",
        "images.orientation",
        "settings",
    },
    "images.nvjpeg": {"images.decoding", "images.geometry", "images.model_input", "settings"},
    "options": {"errors"},
    "message": {"errors", "images.geometry", "options"},
    "protocols.single_image": {"errors", "message", "options"},
    "protocols.kserve": {"errors", "message", "options", "protocols.single_image"},
    "protocols.dispatch": {"errors", "protocols.kserve", "message", "protocols.single_image"},
    "explain.overlay": {"errors", "images.geometry", "options"},
    "network.architecture": {"errors"},
    "network.labels": {"errors", "network.architecture"},
    "network.target_layer": {"errors", "network.architecture", "network.layout"},
    "network.weights": {"network.architecture"},
    "split.parts": {"network.layout"},
    "split.fx_split": {"split.parts"},
    "split.hook_split": set(),
    "split.verification": {"split.parts"},
    "split.splitter": {
        "network.layout",
        "network.target_layer",
        "split.fx_split",
        "split.hook_split",
        "split.parts",
        "split.verification",
    },
    "engines.engine": {"explain.cam", "engines.onednn", "settings", "split.parts"},
    "explain.explainer": {"explain.cam", "split.parts"},
    "pipeline": {
        "explain.cam",
        "engines.engine",
        "errors",
        "explain.explainer",
        "images.decoding",
        "images.geometry",
        "images.model_input",
        "images.nvjpeg",
        "message",
        "network.architecture",
        "network.labels",
        "network.weights",
        "options",
        "explain.overlay",
        "settings",
        "split.parts",
        "split.splitter",
        "split.verification",
    },
    "gradcam_handler": {
        "explain.cam",
        "errors",
        "protocols.kserve",
        "machine",
        "message",
        "pipeline",
        "settings",
        "protocols.dispatch",
    },
}
ONLY_IN = {
    "ts": {"gradcam_handler"},
    "cv2": {"explain.overlay"},
    "PIL": {"images.decoding", "images.formats", "images.limits", "images.model_input", "images.orientation"},
    "torchcodec": {"images.nvjpeg"},
}


def imported(path: Path) -> set[str]:
    """Returns `gradcam`'s modules by their own names, all others by the name of their package."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("gradcam"):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return {name.removeprefix("gradcam.") if name.startswith("gradcam") else name.split(".")[0] for name in names}


def test_every_module_has_its_place() -> None:
    assert set(MODULES) == set(KNOWS)


@pytest.mark.parametrize("module", KNOWS)
def test_a_module_imports_only_what_it_may_know(module: str) -> None:
    assert imported(MODULES[module]) & set(KNOWS) <= KNOWS[module]


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_package_is_imported_only_in_its_place(package: str) -> None:
    assert {name for name, path in MODULES.items() if package in imported(path)} == ONLY_IN[package]
