"""Every method, layer, and precision over HTTP, compared with a local pipeline, which other tests verify."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gradcam.explain import cam
from gradcam.message import Request, Result
from gradcam.network.labels import Labels
from gradcam.options import Options
from gradcam.pipeline import Pipeline
from gradcam.settings import Settings
from tests.support.encoding import encoded
from tests.support.served import ALL_METHODS, Call, Model, check, error, parsed, sample
from tools.archive import build as build_mar
from tools.archive.build import Build
from tools.archive.rewrite import read_config, reconfigure
from tools.server.port_check import free_port
from tools.server.server import Server

PIXELS = sample(81)
IMAGE = encoded(PIXELS)
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def other_server(store: Path, squash_archive: Path) -> Iterator[Server]:
    """Variants of `squash`: all methods without and with a short batch deadline, and a trunk in bfloat16."""
    gradcam = read_config(squash_archive)["gradcam"] | ALL_METHODS
    patient = reconfigure(squash_archive, store / "patient.mar", gradcam=gradcam)
    hurried = reconfigure(squash_archive, store / "hurried.mar", gradcam=gradcam | {"max_batch_seconds": 2})
    bfloat16 = build_mar.build(Build("resnet18", "random", precision="bfloat16", name="bfloat16", output=store))
    with Server([patient, hurried, bfloat16], free_port()) as server:
        yield server


@pytest.fixture(scope="module")
def patient(other_server: Server, squash: Model) -> Model:
    return Model(other_server, "patient", squash.network, squash.labels)


@pytest.fixture(scope="module")
def pipeline(squash: Model, squash_archive: Path) -> Pipeline:
    settings = Settings.from_mapping(read_config(squash_archive)["gradcam"] | ALL_METHODS)
    return Pipeline(squash.network, Labels(squash.labels), settings, torch.device("cpu"))


def expected(pipeline: Pipeline, options: Options) -> Result:
    (result,) = pipeline.answer([Request(IMAGE, options)])
    assert isinstance(result, Result), result
    return result


def check_maps(answer: dict[str, Any], result: Result) -> None:
    assert [entry["index"] for entry in answer["explanations"]] == [e.prediction.index for e in result.explanations]
    for entry, explanation in zip(answer["explanations"], result.explanations, strict=True):
        np.testing.assert_allclose(entry["heatmap"], explanation.heatmap, rtol=0, atol=TOLERANCE)
        assert entry["evidence"] is explanation.evidence


@pytest.mark.parametrize("method", cam.METHODS)
def test_method_equals_the_pipeline(method: str, patient: Model, pipeline: Pipeline) -> None:
    # Score-CAM needs one forward pass per channel; layer1 has few.
    layer = "layer1" if method == "scorecam" else "layer4.1.conv2"

    answer = patient.predict(IMAGE, method=method, layer=layer, targets="7,281")

    assert (answer["method"], answer["layer"]) == (method, layer)
    check_maps(answer, expected(pipeline, Options(method=method, layer=(layer,), targets=(7, 281))))


def test_methods_give_different_maps(squash: Model) -> None:
    maps = [
        np.asarray(squash.predict(IMAGE, method=method, targets=7)["explanations"][0]["heatmap"])
        for method in ("gradcam", "hirescam", "layercam", "eigencam", "counterfactual")
    ]

    assert all(np.abs(one - other).max() > 0.05 for i, one in enumerate(maps) for other in maps[:i])


@pytest.mark.parametrize("layers", ["layer3", "layer2.0.conv1", "layer4,layer3", "conv1"])
def test_layers_equal_the_pipeline(layers: str, squash: Model, pipeline: Pipeline) -> None:
    names = tuple(layers.split(","))

    answer = squash.predict(IMAGE, layer=layers, explain=2)

    assert answer["layer"] == (list(names) if len(names) > 1 else layers)
    check_maps(answer, expected(pipeline, Options(layer=names, explain=2)))


def test_smooth_equals_the_pipeline(squash: Model, pipeline: Pipeline) -> None:
    answer = squash.predict(IMAGE, smooth="true", explain=2)

    check_maps(answer, expected(pipeline, Options(smooth=True, explain=2)))
    plain = squash.predict(IMAGE, explain=2)
    assert answer["predictions"] == plain["predictions"]
    assert answer["explanations"][0]["heatmap"] != plain["explanations"][0]["heatmap"]


def test_methods_share_a_batch(batched: Model, patient: Model) -> None:
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
    calls = [Call(IMAGE, form=form) for form in options]

    together = batched.post_together(calls)

    assert error(together.pop(5), 422)[0] == "unknown_method"
    del calls[5]
    for call, response in zip(calls, together, strict=True):
        alone, shared = parsed(patient.post(call)), parsed(response)
        assert [e["index"] for e in shared["explanations"]] == [e["index"] for e in alone["explanations"]]
        for one, other in zip(alone["explanations"], shared["explanations"], strict=True):
            np.testing.assert_allclose(one["heatmap"], other["heatmap"], rtol=0, atol=TOLERANCE)


# ----------------------------------------------------------------------------- other settings


def test_bfloat16_trunk_gives_nearly_the_same_map(other_server: Server, squash: Model, pipeline: Pipeline) -> None:
    served = Model(other_server, "bfloat16", squash.network, squash.labels)

    answer = served.predict(IMAGE, targets="7")

    exact = expected(pipeline, Options(targets=(7,))).explanations[0].heatmap
    heatmap = np.asarray(answer["explanations"][0]["heatmap"])
    assert heatmap.max() == 1
    # bfloat16 has eight bits of mantissa: nearly equal, but not exactly.
    assert 0 < np.abs(heatmap - exact).max() < 0.1


def test_explanation_beyond_the_deadline_is_rejected(other_server: Server, squash: Model) -> None:
    served = Model(other_server, "hurried", squash.network, squash.labels)
    pids = other_server.worker_pids("hurried")

    code, message = error(served.post(Call(IMAGE, {"Gradcam-Method": "scorecam"})), 422)

    assert code == "too_expensive"
    assert message.startswith("Time limit of 2 s per batch exceeded by scorecam at layer4.1.conv2")
    check(served.predict(IMAGE), served, PIXELS)
    assert other_server.worker_pids("hurried") == pids
