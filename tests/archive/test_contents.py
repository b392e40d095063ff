"""An archive's files, and that it runs without this repository."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torchvision
import yaml
from safetensors.torch import load_file

from tools.archive import build
from tools.archive.build import Build
from tools.paths import HANDLER, ROOT

CODE = sorted(path.relative_to(HANDLER).as_posix() for path in HANDLER.rglob("*.py") if not path.name.startswith("."))
FILES = sorted([*CODE, "MAR-INF/MANIFEST.json", "index_to_name.json", "model-config.yaml", "weights.safetensors"])

# Runs without this environment's site directory, whose handler.pth would lend the archive this checkout's code.
ALONE = """
import importlib, json, pkgutil, sys
from unittest.mock import Mock

extracted, site_packages, image = sys.argv[1:]
sys.path += [extracted, site_packages]
import gradcam, gradcam_handler
for module in pkgutil.walk_packages(gradcam.__path__, "gradcam."):
    importlib.import_module(module.name)

import yaml
from ts.context import Context
from ts.service import RequestProcessor
from ts.utils.util import list_classes_from_module

config = yaml.safe_load(open(extracted + "/model-config.yaml"))
manifest = json.load(open(extracted + "/MAR-INF/MANIFEST.json"))
context = Context("alone", extracted, manifest, 1, None, "0.12.0", metrics=Mock(), model_yaml_config=config)
context.request_processor = [RequestProcessor({"Accept": "application/json"})]
(entry,) = list_classes_from_module(gradcam_handler)
handler = entry()
handler.initialize(context)
(answer,) = handler.handle([{"body": bytearray(open(image, "rb").read())}], context)
files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
print(json.dumps({"entry": entry.__name__, "files": files, "answer": json.loads(answer)}))
"""


@pytest.fixture(scope="module")
def extracted(squash_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extracted")
    with zipfile.ZipFile(squash_archive) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def config(extracted: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((extracted / "model-config.yaml").read_text())
    return loaded


def test_an_archive_has_exactly_these_files(squash_archive: Path) -> None:
    with zipfile.ZipFile(squash_archive) as archive:
        assert sorted(archive.namelist()) == FILES


def test_code_equals_the_checkouts(extracted: Path) -> None:
    assert {"gradcam_handler.py", "gradcam/pipeline.py", "gradcam/images/decoding.py"} < set(CODE)
    assert {name: (extracted / name).read_bytes() for name in CODE} == {
        name: (HANDLER / name).read_bytes() for name in CODE
    }


def test_caches_and_hidden_files_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CODE:
        copy = tmp_path / "handler" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((HANDLER / name).read_bytes())
    for stray in ("__pycache__/gradcam_handler.cpython-311.pyc", "gradcam/__pycache__/x.pyc", ".DS_Store"):
        path = tmp_path / "handler" / stray
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"stray")
    monkeypatch.setattr(build, "HANDLER", tmp_path / "handler")

    built = build.build(Build("squeezenet1_1", "random", output=tmp_path / "out"))

    with zipfile.ZipFile(built) as archive:
        assert sorted(archive.namelist()) == FILES


def test_manifest(extracted: Path) -> None:
    manifest = json.loads((extracted / "MAR-INF" / "MANIFEST.json").read_text())

    assert manifest["runtime"] == "python"
    assert manifest["model"] == {
        "modelName": "squash",
        "modelVersion": "1.0",
        "handler": "gradcam_handler.py",
        "serializedFile": "weights.safetensors",
        "configFile": "model-config.yaml",
    }


def test_config_has_the_frontends_keys(config: dict[str, Any]) -> None:
    frontend = {key: value for key, value in config.items() if key != "gradcam"}

    assert frontend == {
        "batchSize": 8,
        "maxBatchDelay": 1,
        "responseTimeout": 60,
        "startupTimeout": 300,
    }


def test_config_has_the_handlers_block(config: dict[str, Any], extracted: Path) -> None:
    assert config["gradcam"] == {
        "architecture": "resnet18",
        "num_classes": 1000,
        "weights": "random (seed 0)",
        "weights_sha256": hashlib.sha256((extracted / "weights.safetensors").read_bytes()).hexdigest(),
        "input_size": [224, 224],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "layer": "layer4.1.conv2",
        "activation": "softmax",
        "class_scores": "logits",
        "logits": "",
        "explain": 1,
        "model_file": "",
        "transform": "squash",
        "resize_size": 256,
        "interpolation": "bilinear",
        "method": "gradcam",
        "methods": [
            *("gradcam", "gradcam++", "xgradcam", "hirescam", "layercam", "eigencam", "eigengradcam", "finercam"),
            "counterfactual",
        ],
        "decoding": "exact",
        "engine": "eager",
        "precision": "float32",
        "graph_sha256": "",
        "nncf": "",
        "calibration_images": 0,
        "held_back_images": 0,
        "images_sha256": "",
        "agreement": 0.0,
        "cosine_median": 0.0,
        "cosine_5_percent": 0.0,
        "cosine_worst": 0.0,
        "max_image_bytes": 33_554_432,
        "max_image_pixels": 64_000_000,
        "max_decode_seconds": 10.0,
        "max_instances": 32,
        "max_targets": 100,
        "max_passes": 32,
        "max_overlay_pixels": 32_000_000,
        "max_response_bytes": 67_108_864,
        "max_replay_bytes": 268_435_456,
        "max_batch_seconds": 40.0,
        "max_delay_seconds": 1.0,
    }


def test_labels_are_imagenets(extracted: Path) -> None:
    categories = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"]

    assert json.loads((extracted / "index_to_name.json").read_text()) == {
        str(index): name for index, name in enumerate(categories)
    }


def test_weights_are_a_resnet18s(extracted: Path) -> None:
    network = torchvision.models.resnet18()

    network.load_state_dict(load_file(extracted / "weights.safetensors"), strict=True)

    assert network.fc.weight.std() > 0.01


def test_archive_runs_with_nothing_of_this_repository_on_the_path(extracted: Path, tmp_path: Path) -> None:
    site_packages = sysconfig.get_paths()["purelib"]
    image = ROOT / "examples" / "coffee.jpg"

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ALONE, extracted, site_packages, image],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["entry"] == "GradCAMHandler"  # the only class that TorchServe finds
    files: dict[str, str | None] = result["files"]
    ours = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in CODE}
    packages = {name.split(".")[0] for name in ours}
    assert {name for name in files if name.split(".")[0] in packages} == ours
    for name, file in files.items():
        if name in ours:
            assert Path(file or "").is_relative_to(extracted)
        elif file is not None and Path(file).is_relative_to(ROOT):
            assert Path(file).is_relative_to(site_packages), f"{name} comes from the checkout"
    assert len(result["answer"]["predictions"]) == 5
    assert max(map(max, result["answer"]["explanations"][0]["heatmap"])) == 1


def test_entry_defines_exactly_one_class(extracted: Path) -> None:
    tree = ast.parse((extracted / "gradcam_handler.py").read_text())

    assert [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)] == ["GradCAMHandler"]
