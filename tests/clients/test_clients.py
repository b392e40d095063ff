"""Real clients against TorchServe alone: Triton's, KServe's, and those generated from `docs/openapi.yaml`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.clients.conftest import HERE, run
from tools.paths import ROOT
from tools.server.server import Server

MODEL = "efficientnet_lite0"
CAT = "Egyptian cat"
EXAMPLES = ROOT / "examples" / "clients"
OUTPUTS = ["index", "label", "probability", "target", "evidence", "peak", "strength", "heatmap", "region"]


def address(server: Server) -> str:
    return urlsplit(server.inference_url).netloc


def test_tritons_clients(server: Server, python: Path, image: Path) -> None:
    command = [python, HERE / "triton_calls.py", address(server), server.grpc_inference_address, MODEL, image]
    found = json.loads(run(command))

    rejected, version, grpc = found.pop("error"), found.pop("version"), found.pop("grpc")
    assert found.pop("live") is True
    assert found == dict.fromkeys(found, CAT)
    assert rejected.startswith("[400]")
    assert "topk must be an integer of at least 1, got 0" in rejected
    assert "501" in version  # TorchServe has no versions in V2's paths
    assert "UNIMPLEMENTED" in grpc  # TorchServe's service is in a package of its own


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_examples_in_python(name: str, server: Server, python: Path, image: Path) -> None:
    output = run([python, EXAMPLES / name, address(server), MODEL, image])

    assert output.startswith(f"{CAT} 0."), output
    assert len((EXAMPLES / name).read_text().splitlines()) <= 25


def test_example_in_javascript(server: Server, node: Path, image: Path) -> None:
    assert run(["node", EXAMPLES / "fetch.mjs", address(server), MODEL, image], node).startswith(f"{CAT} 0.")


def test_client_of_openapi_python_client(server: Server, python: Path, image: Path, tmp_path: Path) -> None:
    generator = python.with_name("openapi-python-client")
    document = ROOT / "docs" / "openapi.yaml"
    folder = tmp_path / "generated_client"
    run([generator, "generate", "--path", document, "--meta", "none", "--output-path", folder], tmp_path)

    found = json.loads(run([python, HERE / "generated.py", address(server), MODEL, image], PYTHONPATH=str(tmp_path)))

    check_generated(found)


def test_client_of_openapi_typescript(server: Server, node: Path, image: Path) -> None:
    types, source = node / "api.d.ts", node / "typed.ts"
    run(["npx", "openapi-typescript", ROOT / "docs" / "openapi.yaml", "--output", types], node)
    shutil.copy(HERE / "typed.ts", source)
    options = ["--strict", "--module", "nodenext", "--target", "es2022", "--skipLibCheck"]
    run(["npx", "tsc", *options, source], node)

    found = json.loads(run(["node", node / "typed.js", address(server), MODEL, image], node))

    check_generated(found)


def check_generated(found: dict[str, Any]) -> None:
    assert found == {"single": CAT, "explained": 2, "v1": 1, "v2": OUTPUTS, "error": "invalid_option"}
