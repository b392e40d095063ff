"""Clients that are generated from `docs/openapi.yaml`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.clients.conftest import HERE, MODEL, Place, run
from tools.paths import ROOT

CAT = "Egyptian cat"
DOCUMENT = ROOT / "docs" / "openapi.yaml"
OUTPUTS = ["index", "label", "probability", "target", "evidence", "peak", "strength", "heatmap", "region"]


def check(found: dict[str, Any]) -> None:
    assert found == {"single": CAT, "explained": 2, "v1": 1, "v2": OUTPUTS, "error": "invalid_option"}


def test_client_of_openapi_python_client(place: Place, python: Path, image: Path, tmp_path: Path) -> None:
    generator = python.with_name("openapi-python-client")
    folder = tmp_path / "generated_client"
    run([generator, "generate", "--path", DOCUMENT, "--meta", "none", "--output-path", folder], tmp_path)

    check(json.loads(run([python, HERE / "generated.py", place.address, MODEL, image], PYTHONPATH=str(tmp_path))))


def test_client_of_openapi_typescript(place: Place, node: Path, image: Path) -> None:
    types, source = node / "api.d.ts", node / "typed.ts"
    run(["npx", "openapi-typescript", DOCUMENT, "--output", types], node)
    shutil.copy(HERE / "typed.ts", source)
    options = ["--strict", "--module", "nodenext", "--target", "es2022", "--skipLibCheck"]
    run(["npx", "tsc", *options, source], node)

    check(json.loads(run(["node", node / "typed.js", place.address, MODEL, image], node)))
