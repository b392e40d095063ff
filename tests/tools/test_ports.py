"""Files that cannot import `tools.ports` repeat the same ports."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tools import ports
from tools.paths import CONFIG_PROPERTIES, DOCKERFILE, ROOT

HAPROXY = ROOT / "docker" / "haproxy.cfg"


def properties(path: Path) -> dict[str, str]:
    lines = (line.strip() for line in path.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def container_ports(path: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for document in yaml.safe_load_all(path.read_text()):
        spec = document["spec"]
        containers = spec.get("containers") or spec["template"]["spec"]["containers"]
        found |= {port["name"]: port["containerPort"] for entry in containers for port in entry.get("ports", [])}
    return found


def test_ports_are_consecutive_in_the_order_of_their_purposes() -> None:
    assert [ports.INFERENCE + offset for offset in range(len(ports.PURPOSES))] == [
        ports.INFERENCE,
        ports.MANAGEMENT,
        ports.METRICS,
        ports.GRPC_INFERENCE,
        ports.GRPC_MANAGEMENT,
    ]


def test_configuration_of_torchserve() -> None:
    config = properties(CONFIG_PROPERTIES)
    assert config["inference_address"] == ports.INFERENCE_URL
    assert config["management_address"] == ports.MANAGEMENT_URL
    assert config["metrics_address"] == f"http://{ports.HOST}:{ports.METRICS}"
    assert config["grpc_inference_address"] == config["grpc_management_address"] == ports.HOST
    assert config["grpc_inference_port"] == str(ports.GRPC_INFERENCE)
    assert config["grpc_management_port"] == str(ports.GRPC_MANAGEMENT)


def test_image() -> None:
    (exposed,) = re.findall(r"^EXPOSE (.*)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert exposed.split() == [str(port) for port in (ports.INFERENCE, ports.METRICS, ports.GRPC_INFERENCE)]
    inside = properties(ROOT / "docker" / "torchserve.properties")
    assert inside["inference_address"] == f"http://{ports.HOST}:{ports.INFERENCE + ports.BEHIND_PROXY}"
    assert inside["grpc_inference_port"] == str(ports.GRPC_INFERENCE + ports.BEHIND_PROXY)
    assert inside["metrics_address"] == f"http://0.0.0.0:{ports.METRICS}"


def test_haproxy() -> None:
    text = HAPROXY.read_text()
    assert re.findall(r"bind :(\d+)", text) == [str(ports.INFERENCE), str(ports.GRPC_INFERENCE)]
    servers = re.findall(rf"server \w+ {re.escape(ports.HOST)}:(\d+)", text)
    torchserve = {ports.INFERENCE + ports.BEHIND_PROXY, ports.GRPC_INFERENCE + ports.BEHIND_PROXY, ports.MANAGEMENT}
    behind = {*torchserve, ports.KSERVE_GRPC}
    assert set(servers) == {str(port) for port in behind}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "base/deployment.yaml",
            {"http": ports.INFERENCE, "metrics": ports.METRICS, "grpc": ports.GRPC_INFERENCE},
        ),
        ("components/lens/deployment.yaml", {"lens": ports.LENS}),
        ("overlays/kserve/runtime.yaml", {"http1": ports.INFERENCE}),
    ],
)
def test_containers_in_kubernetes(path: str, expected: dict[str, int]) -> None:
    assert container_ports(ROOT / "kubernetes" / path) == expected


def test_service_in_kubernetes() -> None:
    service = yaml.safe_load((ROOT / "kubernetes" / "base" / "service.yaml").read_text())
    numbers = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert numbers == {"http": 80, "grpc": ports.GRPC_INFERENCE, "metrics": ports.METRICS}


def test_makefile() -> None:
    variables = dict(re.findall(r"^(\w+) \?= (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert (variables["PORT"], variables["LENS_PORT"]) == (str(ports.INFERENCE), str(ports.LENS))
