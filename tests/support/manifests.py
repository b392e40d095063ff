"""Kubernetes manifests as kubectl renders them."""

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
    """Return the path of a command of the dependency group `manifests`."""
    path = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert path, f"{name} is not installed: make setup"
    return path


def render(overlay: str, folder: Path, components: bool = False) -> list[Document]:
    """Render an overlay; `components` includes all components, which its file lists as comments."""
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
    """Return the one document of this kind and name."""
    (document,) = (entry for entry in documents if (entry["kind"], entry["metadata"]["name"]) == (kind, name))
    return document


def pod_of(documents: list[Document]) -> Document:
    """Return the specification of the serving pod."""
    kinds = {document["kind"] for document in documents}
    if "Deployment" in kinds:
        spec: Document = only(documents, "Deployment")["spec"]["template"]["spec"]
    else:
        spec = only(documents, "ServingRuntime")["spec"]
    return spec


def server_of(documents: list[Document]) -> Document:
    """Return the serving container."""
    names = {"torchserve", "kserve-container"}
    (container,) = (container for container in pod_of(documents)["containers"] if container["name"] in names)
    assert isinstance(container, dict)
    return container
