"""The programs in examples/clients."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import ts

from tests.clients.conftest import MODEL, Place, run
from tools.paths import ROOT

CAT = "Egyptian cat"
EXAMPLES = ROOT / "examples" / "clients"
JAR = Path(ts.__path__[0]) / "frontend" / "model-server.jar"


@pytest.mark.parametrize("name", ["kserve_sdk.py", "triton_http.py", "with_requests.py"])
def test_python_over_http(name: str, place: Place, python: Path, image: Path) -> None:
    assert run([python, EXAMPLES / name, place.address, MODEL, image]).startswith(f"{CAT} 0.")


def test_tritons_grpc_client(place: Place, python: Path, image: Path) -> None:
    if place.name == "alone":
        pytest.skip("needs the image's gRPC service")
    assert run([python, EXAMPLES / "triton_grpc.py", place.grpc_address, MODEL, image]).startswith(f"{CAT} 0.")


def test_javascript(place: Place, node: Path, image: Path) -> None:
    assert run(["node", EXAMPLES / "fetch.mjs", place.address, MODEL, image], node).startswith(f"{CAT} 0.")


def test_java(place: Place, image: Path) -> None:
    if shutil.which("javac") is None:
        pytest.skip("needs a JDK")
    host, _, port = place.grpc_address.partition(":")
    output = run(["java", "-cp", JAR, EXAMPLES / "GrpcInfer.java", host, port, MODEL, image])
    answer = json.loads(output.splitlines()[-1])  # the jar's logging writes a warning before it
    assert answer["predictions"][0]["label"] == CAT
    assert len(answer["explanations"]) == 2


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_examples_are_short_and_linked(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 30
    assert f"examples/clients/{path.name}" in (ROOT / "docs" / "requests.md").read_text()
