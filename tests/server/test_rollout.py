"""A new version beside the old one, on a server that allows it: added, compared, switched to, and back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import requests
import torch

from tests.support import oracles
from tests.support.own_network import OwnNetwork
from tools.archive import build as build_mar
from tools.archive.build import Build
from tools.client import rollout
from tools.server.port_check import free_port
from tools.server.server import Server

PICTURES = 8


@pytest.fixture(scope="module")
def tuned_archive(own_network: OwnNetwork, own_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's network, some steps of training later, as version 2.0."""
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
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(PICTURES):
        oracles.seeded_image(100, 80, seed).save(folder / f"{seed}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return folder


@pytest.fixture(scope="module")
def open_server(own_archive: Path) -> Iterator[Server]:
    """A server that lets whoever reaches its management port register what lies in its model store."""
    with Server([own_archive], free_port(), settings={"enable_model_api": "true"}) as running:
        yield running


def probabilities(server: Server, door: str, picture: Path) -> list[float]:
    response = requests.post(f"{server.inference_url}/predictions/{door}", data=picture.read_bytes(), timeout=60)
    response.raise_for_status()
    return [entry["probability"] for entry in response.json()["predictions"]]


def maps(server: Server, version: str, picture: Path, **options: str) -> tuple[str, np.ndarray]:
    url = f"{server.inference_url}/predictions/own/{version}"
    answer = requests.post(url, files={"data": picture.read_bytes()}, data=options, timeout=60).json()
    return answer["predictions"][0]["label"], np.array(answer["explanations"][0]["heatmap"]).ravel()


def test_a_version_comes_beside_the_old_one_and_goes(
    open_server: Server, tuned_archive: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_server.directory / "model-store"
    urls = ["--url", open_server.inference_url, "--management-url", open_server.management_url]

    def run(*arguments: str, status: int = 0) -> str:
        assert rollout.main([*arguments, *urls]) == status
        said = capsys.readouterr()
        return said.out + said.err

    assert run("versions", "--model", "own") == "own 1.0  own.mar  1 ready  default\n"

    assert "own 2.0 is loaded" in run("add", str(tuned_archive), "--model-store", str(store))
    assert run("versions", "--model", "own").splitlines() == [
        "own 1.0  own.mar  1 ready  default",
        "own 2.0  own-2.0.mar  1 ready",
    ]
    assert "own-2.0.mar is there already" in run("add", str(tuned_archive), "--model-store", str(store), status=1)

    # What `compare` says, by this test's own requests.
    same, cosines = 0, []
    for picture in sorted(pictures.glob("[0-9].png")):
        (label, old), (other, _) = maps(open_server, "1.0", picture), maps(open_server, "2.0", picture)
        _, new = maps(open_server, "2.0", picture, targets=f'"{label}"')
        same += label == other
        cosines.append(old @ new / np.sqrt((old @ old) * (new @ new)))
    assert 0.5 < np.mean(cosines) < 0.99999
    comparing = ("compare", str(pictures), "--model", "own", "--old", "1.0", "--new", "2.0")
    share = (same + 1) / (PICTURES + 1)
    said = run(*comparing, "--agreement", f"{share - 0.01}", "--cosine", f"{np.mean(cosines) - 0.01}")
    (agreed, mean, least) = re.findall(r"same class ([\d.]+)%.* mean ([\d.]+) .* least ([\d.]+),", said)[0]
    assert float(agreed) == pytest.approx(100 * share, abs=0.051)
    assert float(mean) == pytest.approx(np.mean(cosines), abs=0.00051)
    assert float(least) == pytest.approx(np.min(cosines), abs=0.00051)
    assert said.endswith(": near enough\n")
    assert "NOT near enough" in run(*comparing, "--agreement", "0", "--cosine", f"{np.mean(cosines) + 0.01}", status=1)

    picture = pictures / "3.png"
    old, new = (probabilities(open_server, f"own/{version}", picture) for version in ("1.0", "2.0"))
    assert old != new
    assert probabilities(open_server, "own", picture) == old
    assert "1.0 → 2.0. Back: scripts/rollout.py switch --model own --to 1.0" in run(
        "switch", "--model", "own", "--to", "2.0"
    )
    assert probabilities(open_server, "own", picture) == new
    run("switch", "--model", "own", "--to", "1.0")
    assert probabilities(open_server, "own", picture) == old
    assert "own has no version 3.0 (versions are 1.0, 2.0)" in run("switch", "--model", "own", "--to", "3.0", status=1)

    # One that cannot answer does not become the default.
    scaled = f"{open_server.management_url}/models/own/2.0"
    requests.put(scaled, params={"min_worker": 0, "max_worker": 0, "synchronous": "true"}, timeout=60)
    said = run("switch", "--model", "own", "--to", "2.0", status=1)
    assert "version 2.0 does not answer, 1.0 stays" in said

    assert "Cannot remove default version" in run("remove", "--model", "own", "--version", "1.0", status=1)
    run("remove", "--model", "own", "--version", "2.0")
    assert run("versions", "--model", "own") == "own 1.0  own.mar  1 ready  default\n"
    assert probabilities(open_server, "own", picture) == old


def test_what_is_not_in_the_model_store_is_not_registered(open_server: Server, own_archive: Path) -> None:
    elsewhere = [f"file://{own_archive}", "http://127.0.0.1:9/own.mar", "../own.mar"]
    for url in elsewhere:
        response = requests.post(f"{open_server.management_url}/models", params={"url": url}, timeout=60)
        assert response.status_code == 404, response.text


def test_a_server_as_it_is_shipped_lets_nothing_in(server: Server, tuned_archive: Path, tmp_path: Path) -> None:
    # Workflows bring models and code as well, and `enable_model_api` says nothing of them.
    for url in (f"file://{tuned_archive}", "http://127.0.0.1:9/flow.war", "../flow.war"):
        response = requests.post(f"{server.management_url}/workflows", params={"url": url}, timeout=60)
        assert response.status_code == 404, response.text
    with pytest.raises(rollout.RolloutError, match="does not allow it"):
        rollout.add(server.management_url, tuned_archive, tmp_path)
    assert list(tmp_path.iterdir()) == []
