"""The real clients of Triton and KServe, against TorchServe alone and behind the image's servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.clients.conftest import HERE, MODEL, Place, run

CAT = "Egyptian cat"
INVALID = "topk must be an integer of at least 1, got 0"


def calls(python: Path, *arguments: Any) -> dict[str, Any]:
    """Run a program of calls; return the outcome of each."""
    found: dict[str, Any] = json.loads(run([python, *arguments]))
    return found


def test_tritons_http_client(place: Place, python: Path, image: Path) -> None:
    found = calls(python, HERE / "triton_calls.py", "http", place.address, MODEL, image)

    assert INVALID in found.pop("invalid option")
    assert "[400]" in found.pop("no image")
    images = ("encoded image", "pixels", "identifier", "sequence", "base64", "JSON outputs", "gzip", "deflate", "async")
    assert {name: found.pop(name) for name in images} == dict.fromkeys(images, CAT)
    assert (found.pop("live"), found.pop("ready")) == (True, True)
    assert found.pop("selected") == ["label", "heatmap"]
    assert found.pop("parameters") == [1, 2, 7, 7]
    found.pop("config")  # Triton's own extension
    if place.name == "image":
        assert "7" in found.pop("unknown version")
        assert "none" in found.pop("unknown model")
        assert found == {
            "model ready": True,
            "version ready": True,
            "extensions": ["binary_tensor_data"],
            "metadata": ["image"],
            "version": CAT,
        }
    else:
        # TorchServe has neither versions in V2's paths nor a model's state, and errors that the client cannot read.
        assert "501" in found["version"]
        assert (found["model ready"], found["version ready"], found["extensions"]) == (False, False, [])
        assert "decoding the response" in found["metadata"]
        assert "decoding the response" in found["unknown model"]


def test_tritons_grpc_client(place: Place, python: Path, image: Path) -> None:
    command = (HERE / "triton_calls.py", "grpc", place.grpc_address, MODEL, image)
    found = calls(python, *command)

    assert "UNIMPLEMENTED" in found.pop("config")
    if place.name == "alone":
        # TorchServe's service is in a package of its own.
        assert [name for name, value in found.items() if "UNIMPLEMENTED" not in value] == []
        return
    assert found.pop("invalid option").startswith("[StatusCode.INVALID_ARGUMENT]")
    assert "[StatusCode.INVALID_ARGUMENT]" in found.pop("no image")
    assert "[StatusCode.NOT_FOUND]" in found.pop("unknown version")
    assert "[StatusCode.NOT_FOUND]" in found.pop("unknown model")
    images = ("encoded image", "pixels", "identifier", "sequence", "version")
    assert {name: found.pop(name) for name in images} == dict.fromkeys(images, CAT)
    assert found == {
        "live": True,
        "ready": True,
        "model ready": True,
        "version ready": True,
        "extensions": ["binary_tensor_data"],
        "metadata": ["image"],
        "selected": ["label", "heatmap"],
        "parameters": [1, 2, 7, 7],
    }


def test_kserves_sdk(place: Place, python: Path, image: Path) -> None:
    found = calls(python, HERE / "kserve_calls.py", place.address, place.grpc_address, MODEL, image)

    over_grpc = {name: found.pop(name) for name in list(found) if name.startswith("grpc ")}
    assert INVALID in found.pop("v2 invalid option")
    images = (
        "v1",
        "v1 TensorFlow",
        "v1 explain",
        "v2 binary",
        "v2 binary outputs",
        "v2 pixels",
        "v2 base64",
    )
    assert {name: found.pop(name) for name in images} == dict.fromkeys(images, CAT)
    assert (found.pop("v2 live"), found.pop("v2 ready"), found.pop("v2 unknown model ready")) == (True, True, False)
    state = found.pop("v1 live"), found.pop("v1 model ready"), found.pop("v2 model ready")
    assert found == {}
    if place.name == "alone":
        assert state[2] is False
        assert "[405]" in state[0]
        assert "[404]" in state[1]
        assert [name for name, value in over_grpc.items() if "UNIMPLEMENTED" not in str(value)] == []
        return
    assert state == (True, True, True)
    assert INVALID in over_grpc.pop("grpc invalid option")
    live = ("grpc live", "grpc ready", "grpc model ready")
    assert over_grpc == dict.fromkeys(live, True) | dict.fromkeys(("grpc raw", "grpc contents", "grpc pixels"), CAT)
