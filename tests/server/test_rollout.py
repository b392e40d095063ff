"""Rollout of a new version on a server that allows it: add, compare, switch, switch back, remove."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import oracles
from tests.support.http_client import post, request
from tests.support.own_network import OwnNetwork
from tools.archive import build as build_mar
from tools.archive.build import Build
from tools.client import rollout
from tools.server import management
from tools.server.port_check import free_port
from tools.server.server import Server

IMAGES = 8


@pytest.fixture(scope="module")
def tuned_archive(own_network: OwnNetwork, own_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's network with slightly different weights, as version 2.0."""
    folder = tmp_path_factory.mktemp("tuned")
    random = torch.Generator().manual_seed(0)
    state = {
        name: value + 0.02 * value.std() * torch.randn(value.shape, generator=random) if value.ndim == 4 else value
        for name, value in own_network.network.state_dict().items()
    }
    torch.save(state, folder / "tuned.pth")
    labels = own_network.weights.with_name("own.txt")
    options = Build(own_network.architecture, str(folder / "tuned.pth"), labels=labels, name="own", version="2.0")
    return build_mar.build(replace(options, output=folder))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for seed in range(IMAGES):
        oracles.seeded_image(100, 80, seed).save(folder / f"{seed}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return folder


@pytest.fixture(scope="module")
def open_server(own_archive: Path) -> Iterator[Server]:
    """A server whose management API registers archives from its model store."""
    with Server([own_archive], free_port(), settings={"enable_model_api": "true"}) as running:
        yield running


def probabilities(server: Server, model: str, image: Path) -> list[float]:
    response = post(f"{server.inference_url}/predictions/{model}", data=image.read_bytes(), timeout=60)
    response.raise_for_status()
    return [entry["probability"] for entry in response.json()["predictions"]]


def maps(server: Server, version: str, image: Path, **options: str) -> tuple[str, np.ndarray]:
    url = f"{server.inference_url}/predictions/own/{version}"
    answer = post(url, files={"data": image.read_bytes()}, data=options, timeout=60).json()
    return answer["predictions"][0]["label"], np.array(answer["explanations"][0]["heatmap"]).ravel()


def test_version_is_added_compared_switched_and_removed(
    open_server: Server, tuned_archive: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_server.directory / "model-store"
    urls = ["--url", open_server.inference_url, "--management-url", open_server.management_url]

    def run(*arguments: str, status: int = 0) -> str:
        assert rollout.main([*arguments, *urls]) == status
        captured = capsys.readouterr()
        return captured.out + captured.err

    assert run("versions", "--model", "own") == "own 1.0  own.mar  1 ready  default\n"

    assert "own 2.0 is loaded" in run("add", str(tuned_archive), "--model-store", str(store))
    assert run("versions", "--model", "own").splitlines() == [
        "own 1.0  own.mar  1 ready  default",
        "own 2.0  own-2.0.mar  1 ready",
    ]
    assert "own-2.0.mar exists already" in run("add", str(tuned_archive), "--model-store", str(store), status=1)

    # The same comparison with this test's own requests.
    same, cosines = 0, []
    for image in sorted(images.glob("[0-9].png")):
        (label, old), (other, _) = maps(open_server, "1.0", image), maps(open_server, "2.0", image)
        _, new = maps(open_server, "2.0", image, targets=f'"{label}"')
        same += label == other
        cosines.append(old @ new / np.sqrt((old @ old) * (new @ new)))
    assert 0.5 < np.mean(cosines) < 0.99999
    compare = ("compare", str(images), "--model", "own", "--old", "1.0", "--new", "2.0")
    share = (same + 1) / (IMAGES + 1)
    output = run(*compare, "--agreement", f"{share - 0.01}", "--cosine", f"{np.mean(cosines) - 0.01}")
    (agreed, mean, least) = re.findall(r"same class ([\d.]+)%.* mean ([\d.]+) .* minimum ([\d.]+),", output)[0]
    assert float(agreed) == pytest.approx(100 * share, abs=0.051)
    assert float(mean) == pytest.approx(np.mean(cosines), abs=0.00051)
    assert float(least) == pytest.approx(np.min(cosines), abs=0.00051)
    assert output.endswith(": close enough\n")
    assert "NOT close enough" in run(*compare, "--agreement", "0", "--cosine", f"{np.mean(cosines) + 0.01}", status=1)

    image = images / "3.png"
    before, after = (probabilities(open_server, f"own/{version}", image) for version in ("1.0", "2.0"))
    assert before != after
    assert probabilities(open_server, "own", image) == before
    assert "1.0 → 2.0. Back: scripts/rollout.py switch --model own --to 1.0" in run(
        "switch", "--model", "own", "--to", "2.0"
    )
    assert probabilities(open_server, "own", image) == after
    run("switch", "--model", "own", "--to", "1.0")
    assert probabilities(open_server, "own", image) == before
    assert "own has no version 3.0 (versions are 1.0, 2.0)" in run("switch", "--model", "own", "--to", "3.0", status=1)

    # A version without workers does not become the default.
    scaled = f"{open_server.management_url}/models/own/2.0"
    request("PUT", scaled, params={"min_worker": 0, "max_worker": 0, "synchronous": "true"}, timeout=60)
    output = run("switch", "--model", "own", "--to", "2.0", status=1)
    assert "version 2.0 does not answer, 1.0 stays the default" in output

    assert "Cannot remove default version" in run("remove", "--model", "own", "--version", "1.0", status=1)
    run("remove", "--model", "own", "--version", "2.0")
    assert run("versions", "--model", "own") == "own 1.0  own.mar  1 ready  default\n"
    assert probabilities(open_server, "own", image) == before


def test_archives_outside_the_model_store_are_not_registered(open_server: Server, own_archive: Path) -> None:
    elsewhere = [f"file://{own_archive}", "http://127.0.0.1:9/own.mar", "../own.mar"]
    for url in elsewhere:
        response = post(f"{open_server.management_url}/models", params={"url": url}, timeout=60)
        assert response.status_code == 404, response.text


def test_default_configuration_registers_nothing(server: Server, tuned_archive: Path, tmp_path: Path) -> None:
    # Workflows contain models and code, too, and `enable_model_api` does not cover them.
    for url in (f"file://{tuned_archive}", "http://127.0.0.1:9/flow.war", "../flow.war"):
        response = post(f"{server.management_url}/workflows", params={"url": url}, timeout=60)
        assert response.status_code == 404, response.text
    with pytest.raises(management.ManagementError, match="does not allow it"):
        management.add_version(server.management_url, tuned_archive, tmp_path)
    assert list(tmp_path.iterdir()) == []
