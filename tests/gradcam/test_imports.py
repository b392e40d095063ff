"""Import rules: which module may import which, and which packages."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tools.paths import HANDLER

MODULES = {
    ".".join(path.relative_to(HANDLER).with_suffix("").parts).removeprefix("gradcam."): path
    for path in HANDLER.rglob("*.py")
    if path.stem != "__init__"
}
PACKAGES = sorted(path for path in HANDLER.rglob("__init__.py"))

# Which of our modules each module may import. A new module needs an entry here.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "machine": set(),
    "turn": set(),
    "options": {"errors"},
    "settings": {"errors", "explain.cam"},
    "images.geometry": {"settings"},
    "images.formats": {"errors"},
    "images.jpeg": set(),
    "images.pixels": set(),
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
        "images.pixels",
        "settings",
    },
    "images.nvjpeg": {"images.decoding", "images.geometry", "images.model_input", "settings"},
    "network.layout": set(),
    "network.architecture": {"errors"},
    "network.labels": {"errors", "network.architecture"},
    "network.logits": {"settings"},
    "network.target_layer": {"errors", "network.architecture", "network.layout"},
    "network.weights": {"network.architecture"},
    "split.parts": {"network.layout"},
    "split.fx_split": {"split.parts"},
    "split.hook_split": set(),
    "split.verification": {"split.parts"},
    "split.costs": {"split.parts"},
    "split.splitter": {
        "network.layout",
        "network.target_layer",
        "split.costs",
        "split.fx_split",
        "split.hook_split",
        "split.parts",
        "split.verification",
    },
    "explain.cam": set(),
    "explain.explainer": {"explain.cam", "split.parts"},
    "explain.boxes": {"images.geometry"},
    "explain.provenance": {"options"},
    "explain.overlay": {"errors", "explain.boxes", "images.geometry", "options"},
    "explain.caption": {"explain.overlay", "explain.provenance", "options"},
    "engines.graph": {"images.model_input", "settings", "split.parts"},
    "engines.engine": {"engines.graph", "explain.cam", "images.model_input", "settings", "split.parts"},
    "message": {"errors", "explain.boxes", "images.geometry", "images.pixels", "options"},
    "protocols.content_encoding": {"errors"},
    "protocols.single_image": {"errors", "explain.boxes", "images.pixels", "message", "options"},
    "protocols.kserve_common": {"errors", "message", "protocols.single_image"},
    "protocols.kserve_tensors": {"errors", "message", "protocols.kserve_common", "protocols.single_image"},
    "protocols.kserve_binary": {"errors"},
    "protocols.kserve_inputs": {
        "errors",
        "images.pixels",
        "options",
        "protocols.kserve_binary",
        "protocols.kserve_common",
    },
    "protocols.kserve_v1": {"errors", "message", "protocols.kserve_common", "protocols.single_image"},
    "protocols.kserve_v2": {
        "errors",
        "message",
        "protocols.kserve_binary",
        "protocols.kserve_common",
        "protocols.kserve_inputs",
        "protocols.kserve_tensors",
        "protocols.single_image",
    },
    "protocols.dispatch": {
        "errors",
        "message",
        "protocols.content_encoding",
        "protocols.kserve_binary",
        "protocols.kserve_v1",
        "protocols.kserve_v2",
        "protocols.single_image",
    },
    "batch": {"errors", "explain.cam", "explain.explainer", "images.model_input", "message"},
    "admission": {
        "batch",
        "errors",
        "explain.cam",
        "explain.overlay",
        "message",
        "network.labels",
        "options",
        "settings",
    },
    "forward_passes": {"batch", "explain.cam"},
    "layer_splits": {
        "engines.engine",
        "errors",
        "images.model_input",
        "settings",
        "split.parts",
        "split.splitter",
        "split.verification",
    },
    "results": {
        "batch",
        "errors",
        "explain.boxes",
        "explain.caption",
        "explain.cam",
        "explain.overlay",
        "explain.provenance",
        "images.geometry",
        "message",
        "network.labels",
        "network.logits",
        "options",
        "settings",
    },
    "selection": {"admission", "batch", "errors", "network.logits", "results", "settings"},
    "batch_explainer": {
        "batch",
        "errors",
        "explain.cam",
        "explain.explainer",
        "forward_passes",
        "selection",
        "settings",
        "turn",
    },
    "pipeline": {
        "admission",
        "batch",
        "batch_explainer",
        "engines.engine",
        "errors",
        "explain.cam",
        "explain.explainer",
        "forward_passes",
        "images.decoding",
        "images.geometry",
        "images.model_input",
        "images.nvjpeg",
        "layer_splits",
        "message",
        "network.architecture",
        "network.labels",
        "network.logits",
        "network.weights",
        "options",
        "results",
        "selection",
        "settings",
    },
    "torchserve_rows": {"protocols.dispatch"},
    "gradcam_handler": {
        "batch",
        "errors",
        "machine",
        "message",
        "pipeline",
        "protocols.dispatch",
        "protocols.kserve_v2",
        "settings",
        "torchserve_rows",
        "turn",
    },
}
ONLY_IN = {
    "ts": {"gradcam_handler"},
    "cv2": {"explain.boxes", "explain.overlay"},
    "PIL": {
        "explain.caption",
        "images.decoding",
        "images.formats",
        "images.limits",
        "images.model_input",
        "images.orientation",
    },
    "torchcodec": {"images.nvjpeg"},
    "openvino": {"engines.graph"},
}


def imported(path: Path) -> set[str]:
    """Return our modules by their names without `gradcam.`, and other packages by their names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("gradcam"):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            names.add(str(node.module))
    return {name.removeprefix("gradcam.") if name.startswith("gradcam") else name.split(".")[0] for name in names}


def test_every_module_has_a_rule() -> None:
    assert set(MODULES) == set(ALLOWED)


@pytest.mark.parametrize("module", ALLOWED)
def test_module_imports_only_allowed_modules(module: str) -> None:
    assert imported(MODULES[module]) & set(ALLOWED) <= ALLOWED[module]


def test_rules_have_no_cycle() -> None:
    remaining = dict(ALLOWED)
    while remaining:
        leaves = {module for module, allowed in remaining.items() if not allowed & set(remaining)}
        assert leaves, f"cycle among {sorted(remaining)}"
        remaining = {module: allowed for module, allowed in remaining.items() if module not in leaves}


@pytest.mark.parametrize("package", ONLY_IN)
def test_package_is_imported_only_where_allowed(package: str) -> None:
    assert {name for name, path in MODULES.items() if package in imported(path)} == ONLY_IN[package]


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.parent.name)
def test_package_is_described_and_exports_nothing(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    assert not any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(tree))
