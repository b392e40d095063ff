"""Manifests as kubectl renders them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tools.paths import ROOT

KUBERNETES = ROOT / "kubernetes"
COMPONENTS = sorted(path.name for path in (KUBERNETES / "components").iterdir())

Document = dict[str, Any]


def tool(name: str) -> str:
    """Returns where a command of the group `manifests` is."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert found, f"{name} is not installed: make setup"
    return found


def render(overlay: str, folder: Path, components: bool = False) -> list[Document]:
    """Renders an overlay, with all the components if asked that its file has as comments."""
    copy = folder / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    path = copy / "overlays" / overlay / "kustomization.yaml"
    if components:
        text = path.read_text()
        path.write_text(text.replace("#  - ../../components", "  - ../../components"))
    done = subprocess.run([tool("kubectl"), "kustomize", str(path.parent)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def only(documents: list[Document], kind: str, name: str = "gradcam-serving") -> Document:
    """Returns the one document of this kind and name."""
    (found,) = (entry for entry in documents if (entry["kind"], entry["metadata"]["name"]) == (kind, name))
    return found


def pod_of(documents: list[Document]) -> Document:
    """Returns the specification of the pod that serves."""
    kinds = {document["kind"] for document in documents}
    if "Deployment" in kinds:
        spec: Document = only(documents, "Deployment")["spec"]["template"]["spec"]
    else:
        spec = only(documents, "ServingRuntime")["spec"]
    return spec


def server_of(documents: list[Document]) -> Document:
    """Returns the container that serves."""
    names = {"torchserve", "kserve-container"}
    (container,) = (container for container in pod_of(documents)["containers"] if container["name"] in names)
    assert isinstance(container, dict)
    return container
