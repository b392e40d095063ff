"""The Deployment rendered by kubectl and run by podman."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.container import Container, free_port
from tests.support.manifests import Document, only, render
from tools.image.container import ContainerEngine


@pytest.fixture
def deployed(engine: ContainerEngine, tmp_path: Path) -> Iterator[Container]:
    if engine.command != "podman":
        pytest.skip("Docker cannot run a Deployment")
    published = free_port()
    manifest = tmp_path / "deployment.yaml"
    deployment = for_podman(only(render("cpu", tmp_path), "Deployment"), published)
    manifest.write_text(yaml.safe_dump(deployment))
    engine("play", "kube", str(manifest))
    # The pod's name depends on podman's version.
    (name,) = engine("ps", "--format", "{{.Names}}", "--filter", "name=-torchserve$").stdout.split()
    yield Container(engine, name, {8080: published})
    engine("play", "kube", "--down", str(manifest))


def for_podman(deployment: Document, published: int) -> Document:
    """Return the Deployment with features that podman lacks replaced: a host port, and numbers for named ports."""
    changed = copy.deepcopy(deployment)
    (container,) = changed["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port for port in container["ports"]}
    # podman has no Services; publish a port of the host.
    ports["http"] |= {"hostPort": published, "hostIP": "127.0.0.1"}
    for probe in ("readinessProbe", "livenessProbe"):
        get = container[probe]["httpGet"]
        get["port"] = ports[get["port"]]["containerPort"]
    return changed


def test_deployment_serves(deployed: Container) -> None:
    deployed.wait_until(deployed.is_healthy)
    answer = deployed.post().json()
    assert answer["predictions"][0]["label"] == "Egyptian cat"
    assert answer["explanations"][0]["peak"] == [289, 150]
    assert deployed.engine("exec", deployed.name, "touch", "/app/x", check=False).returncode != 0
