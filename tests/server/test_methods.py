"""Every method, layer and precision over HTTP: the maps of the unit tests' pipeline, which others hold to oracles."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from gradcam.explain import cam
from gradcam.message import Request, Result
from gradcam.network.labels import Labels
from gradcam.options import Options
from gradcam.pipeline import Pipeline
from gradcam.settings import Settings
from tests.support.served import Call, Model, check, document, encoded, error, rewritten, sample
from tools.archive import build as build_mar
from tools.archive.build import Build
from tools.server.port_check import free_port
from tools.server.server import Server

PIXELS = sample(81)
PICTURE = encoded(PIXELS)
TOLERANCE = 1e-4


def settings_of(archive: Path) -> Settings:
    with zipfile.ZipFile(archive) as opened:
        return Settings.from_mapping(yaml.safe_load(opened.read("model-config.yaml"))["gradcam"])


@pytest.fixture(scope="module")
def pipeline(squash: Model, squash_archive: Path) -> Pipeline:
    return Pipeline(squash.network, Labels(squash.labels), settings_of(squash_archive), torch.device("cpu"))


def expected(pipeline: Pipeline, options: Options) -> Result:
    (result,) = pipeline.answer([Request(PICTURE, options)])
    assert isinstance(result, Result), result
    return result


def check_maps(answer: dict[str, Any], result: Result) -> None:
    assert [entry["index"] for entry in answer["explanations"]] == [e.prediction.index for e in result.explanations]
    for entry, explanation in zip(answer["explanations"], result.explanations, strict=True):
        np.testing.assert_allclose(entry["heatmap"], explanation.heatmap, rtol=0, atol=TOLERANCE)
        assert entry["evidence"] is explanation.evidence


@pytest.mark.parametrize("method", cam.METHODS)
def test_method(method: str, squash: Model, pipeline: Pipeline) -> None:
    # With few channels even Score-CAM, a forward pass for each, is done in seconds.
    layer = "layer1" if method == "scorecam" else "layer4.1.conv2"

    answer = squash.ask(PICTURE, method=method, layer=layer, targets="7,281")

    assert (answer["method"], answer["layer"]) == (method, layer)
    check_maps(answer, expected(pipeline, Options(method=method, layer=(layer,), targets=(7, 281))))


def test_methods_give_different_maps(squash: Model) -> None:
    maps = [
        np.asarray(squash.ask(PICTURE, method=method, targets=7)["explanations"][0]["heatmap"])
        for method in ("gradcam", "hirescam", "layercam", "eigencam", "counterfactual")
    ]

    assert all(np.abs(one - other).max() > 0.05 for i, one in enumerate(maps) for other in maps[:i])


@pytest.mark.parametrize("layers", ["layer3", "layer2.0.conv1", "layer4,layer3", "conv1"])
def test_layers(layers: str, squash: Model, pipeline: Pipeline) -> None:
    names = tuple(layers.split(","))

    answer = squash.ask(PICTURE, layer=layers, explain=2)

    assert answer["layer"] == (list(names) if len(names) > 1 else layers)
    check_maps(answer, expected(pipeline, Options(layer=names, explain=2)))


def test_smooth(squash: Model, pipeline: Pipeline) -> None:
    answer = squash.ask(PICTURE, smooth="true", explain=2)

    check_maps(answer, expected(pipeline, Options(smooth=True, explain=2)))
    plain = squash.ask(PICTURE, explain=2)
    assert answer["predictions"] == plain["predictions"]
    assert answer["explanations"][0]["heatmap"] != plain["explanations"][0]["heatmap"]


def test_every_method_in_one_batch(batched: Model, squash: Model) -> None:
    options = [
        {"method": "gradcam"},
        {"method": "layercam", "layer": "layer3", "targets": "5"},
        {"method": "ablationcam"},
        {"method": "eigengradcam", "explain": "3"},
        {"method": "finercam", "layer": "layer4,layer3"},
        {"method": "gradcan"},
        {"method": "counterfactual", "smooth": "true"},
        {"method": "scorecam", "layer": "layer1"},
    ]
    calls = [Call(PICTURE, form=given) for given in options]

    together = batched.post_together(calls)

    assert error(together.pop(5), 422)[0] == "unknown_method"
    del calls[5]
    for call, response in zip(calls, together, strict=True):
        alone, shared = document(squash.post(call)), document(response)
        assert [e["index"] for e in shared["explanations"]] == [e["index"] for e in alone["explanations"]]
        for one, other in zip(alone["explanations"], shared["explanations"], strict=True):
            np.testing.assert_allclose(one["heatmap"], other["heatmap"], rtol=0, atol=TOLERANCE)


# ----------------------------------------------------------------------------- other settings


@pytest.fixture(scope="module")
def other_server(store: Path, squash_archive: Path) -> Iterator[Server]:
    """The network `squash` with a trunk in bfloat16, and with no time to spare."""
    with zipfile.ZipFile(squash_archive) as archive:
        config = yaml.safe_load(archive.read("model-config.yaml"))
    config["gradcam"]["max_batch_seconds"] = 2
    changed = yaml.safe_dump(config).encode()
    hurried = rewritten(squash_archive, store / "hurried.mar", {"model-config.yaml": changed})
    bfloat16 = build_mar.build(Build("resnet18", "random", precision="bfloat16", name="bfloat16", output=store))
    with Server([hurried, bfloat16], free_port()) as server:
        yield server


def test_a_trunk_in_bfloat16(other_server: Server, squash: Model, pipeline: Pipeline) -> None:
    served = Model(other_server, "bfloat16", squash.network, squash.labels)

    answer = served.ask(PICTURE, targets="7")

    exact = expected(pipeline, Options(targets=(7,))).explanations[0].heatmap
    heatmap = np.asarray(answer["explanations"][0]["heatmap"])
    assert heatmap.max() == 1
    # Eight bits of mantissa: nearly the same, and not the same.
    assert 0 < np.abs(heatmap - exact).max() < 0.1


def test_an_explanation_for_which_there_is_no_time_is_refused(other_server: Server, squash: Model) -> None:
    served = Model(other_server, "hurried", squash.network, squash.labels)
    pids = other_server.worker_pids("hurried")

    code, message = error(served.post(Call(PICTURE, {"Gradcam-Method": "scorecam"})), 422)

    assert code == "too_expensive"
    assert message.startswith("scorecam at layer4.1.conv2 was not done in the 2 s that a batch may take")
    check(served.ask(PICTURE), served, PIXELS)
    assert other_server.worker_pids("hurried") == pids
