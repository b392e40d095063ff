"""Modules import only those above them, and nothing of the handler."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import kserve_grpc
from tools.paths import ROOT

ALLOWED: dict[str, set[str]] = {
    "messages": set(),
    "translation": {"kserve_grpc.messages"},
    "http_api": set(),
    "service": {"kserve_grpc.http_api", "kserve_grpc.messages", "kserve_grpc.translation"},
    "__main__": {"kserve_grpc.http_api", "kserve_grpc.service", "tools.ports"},
}
# Everything else that may be imported is in the image: the standard library, grpcio and protobuf.
OURS = {path.name for path in (ROOT / "handler").iterdir()} | {"gradcam", "kserve_grpc", "lens", "tools"}
MODULES = {path.stem: path for path in Path(kserve_grpc.__path__[0]).glob("*.py") if path.stem != "__init__"}


def test_every_module_has_a_rule() -> None:
    assert MODULES.keys() == ALLOWED.keys()


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_up_the_list(name: str) -> None:
    imported = {
        node.module or "" for node in ast.walk(ast.parse(MODULES[name].read_text())) if isinstance(node, ast.ImportFrom)
    }
    assert {module for module in imported if module.split(".")[0] in OURS} <= ALLOWED[name]


@pytest.mark.parametrize("name", MODULES)
def test_the_package_lists_its_modules(name: str) -> None:
    assert name == "__main__" or f"\n    {name}" in str(kserve_grpc.__doc__)
