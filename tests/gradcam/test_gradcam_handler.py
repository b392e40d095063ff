"""The handler as TorchServe's worker calls it, from the folder of an extracted archive."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
import torch
import yaml
from PIL import Image
from ts.context import Context, RequestProcessor
from ts.metrics.dimension import Dimension
from ts.metrics.metric_type_enum import MetricTypes

from gradcam import machine
from gradcam.batch import Explained
from gradcam.message import Result
from gradcam.network import architecture as network
from gradcam.network.weights import load_weights
from gradcam.pipeline import Pipeline
from gradcam_handler import GradCAMHandler
from tests.support import oracles
from tests.support.encoding import encoded

WIDTH, HEIGHT = 150, 120


class Metrics:
    """Replaces TorchServe's metrics, and stores what the handler records."""

    def __init__(self) -> None:
        self.recorded: list[tuple[str, float, str, str, list[str]]] = []

    def add_time(self, name: str, value: float, idx: str | None, unit: str) -> None:
        assert (name, idx, unit) == ("HandlerTime", None, "ms")

    def add_metric(
        self, name: str, value: float, unit: str, *, dimensions: list[Dimension], metric_type: MetricTypes
    ) -> None:
        self.recorded.append((name, value, unit, metric_type.value, [str(dimension) for dimension in dimensions]))


def seeded(seed: int, kind: str = "PNG") -> bytes:
    return encoded(oracles.seeded_image(WIDTH, HEIGHT, seed), kind)


@pytest.fixture(scope="module")
def archive(squash_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an extracted archive."""
    folder = tmp_path_factory.mktemp("archive")
    with zipfile.ZipFile(squash_archive) as packed:
        packed.extractall(folder)
    return folder


def worker_context(archive: Path) -> Context:
    return Context(
        model_name="resnet18",
        model_dir=str(archive),
        manifest=json.loads((archive / "MAR-INF" / "MANIFEST.json").read_text()),
        batch_size=8,
        gpu=None,
        mms_version="0.12.0",
        metrics=Metrics(),
        model_yaml_config=yaml.safe_load((archive / "model-config.yaml").read_text()),
    )


@pytest.fixture(scope="module")
def handler(archive: Path) -> GradCAMHandler:
    handler = GradCAMHandler()
    handler.initialize(worker_context(archive))
    return handler


class Served:
    """The replies to a batch: bodies, and the status and headers that the frontend would send."""

    def __init__(self, context: Context, bodies: list[Any]) -> None:
        self.context = context
        self.bodies = bodies

    def status(self, index: int) -> tuple[int, str | None]:
        status: tuple[int, str | None] = self.context.get_response_status(index)
        return status

    def content_type(self, index: int) -> str | None:
        content_type: str | None = self.context.get_response_content_type(index)
        return content_type

    def document(self, index: int = 0) -> Any:
        assert self.status(index) == (200, "OK"), self.bodies[index]
        return json.loads(self.bodies[index])


def serve(handler: GradCAMHandler, *requests: tuple[Mapping[str, Any], Mapping[str, Any]]) -> Served:
    """Pass rows, each with its headers, through `handle` as the worker does."""
    context = Context("resnet18", "", {}, len(requests), None, "0.12.0", metrics=Metrics())
    context.request_ids = {index: f"request-{index}" for index in range(len(requests))}
    context.request_processor = [RequestProcessor(dict(headers)) for _, headers in requests]
    bodies = handler.handle([dict(row) for row, _ in requests], context)
    return Served(context, bodies)


def test_a_reply_equals_the_tutorial(handler: GradCAMHandler, archive: Path) -> None:
    served = serve(handler, ({"body": bytearray(seeded(1))}, {}))
    document = served.document()
    model = network.build("resnet18", 1000)
    path = archive / "weights.safetensors"
    load_weights(model, path, hashlib.sha256(path.read_bytes()).hexdigest())
    layer = oracles.target_layer(model)
    inputs = oracles.model_input(oracles.seeded_image(WIDTH, HEIGHT, 1))
    predicted = int(model(inputs).argmax())
    expected = oracles.tutorial(model, layer, inputs, [predicted])
    (explanation,) = document["explanations"]
    assert (document["layer"], document["method"]) == (layer, "gradcam")
    assert document["image"] == {"width": WIDTH, "height": HEIGHT, "region": [0, 0, WIDTH, HEIGHT]}
    assert explanation["index"] == document["predictions"][0]["index"] == predicted
    assert explanation["evidence"] is True
    np.testing.assert_allclose(explanation["heatmap"], expected.heatmaps[0], rtol=0, atol=1e-5)
    assert explanation["strength"] == pytest.approx(float(expected.weighted_sum.max()), rel=1e-4)
    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    assert document["model"] == {"name": "squash", "version": "1.0", "weights": digits}
    probabilities = expected.logits.softmax(dim=1)[0].topk(5)
    assert [prediction["index"] for prediction in document["predictions"]] == probabilities.indices.tolist()
    np.testing.assert_allclose([p["probability"] for p in document["predictions"]], probabilities.values, rtol=1e-4)


def test_every_row_gets_its_own_reply_status_and_content_type(handler: GradCAMHandler) -> None:
    in_json = {"image": base64.b64encode(seeded(4)).decode(), "targets": [3, 4], "heatmap": "none"}
    served = serve(
        handler,
        ({"body": bytearray(seeded(0))}, {"Gradcam-Targets": "7"}),
        ({"body": bytearray(b"not an image")}, {}),
        ({"data": bytearray(seeded(2, "JPEG"))}, {"accept": "image/png"}),
        ({"data": bytearray(seeded(3)), "explain": bytearray(b"0")}, {}),
        ({"body": in_json}, {"content-type": "application/json"}),
        ({"body": bytearray(seeded(5))}, {"gradcam-targets": "1000"}),
        ({"body": bytearray(b"%PDF-1.7")}, {"accept": "image/png"}),
        ({}, {}),
    )
    assert len(served.bodies) == 8
    assert [served.status(index) for index in range(8)] == [
        (200, "OK"),
        (400, "Bad Request"),
        (200, "OK"),
        (200, "OK"),
        (200, "OK"),
        (422, "Unprocessable Entity"),
        (415, "Unsupported Media Type"),
        (400, "Bad Request"),
    ]
    types = ["application/json"] * 8
    types[2] = "image/png"
    assert [served.content_type(index) for index in range(8)] == types
    assert [explanation["index"] for explanation in served.document(0)["explanations"]] == [7]
    assert served.document(3)["explanations"] == []
    assert [explanation["index"] for explanation in served.document(4)["explanations"]] == [3, 4]
    assert all("heatmap" not in explanation for explanation in served.document(4)["explanations"])
    with Image.open(io.BytesIO(served.bodies[2])) as overlay:
        assert (overlay.format, overlay.size) == ("PNG", (WIDTH, HEIGHT))
    codes = [json.loads(served.bodies[index])["error"]["code"] for index in (1, 5, 6, 7)]
    assert codes == ["undecodable_image", "unknown_class", "unsupported_image", "invalid_request"]


def test_a_reply_is_compact_json_or_bytes(handler: GradCAMHandler) -> None:
    served = serve(
        handler, ({"body": bytearray(seeded(0))}, {}), ({"body": bytearray(seeded(0))}, {"accept": "image/jpeg"})
    )
    text, jpeg = served.bodies
    assert isinstance(text, str)
    assert text == json.dumps(json.loads(text), separators=(",", ":"))
    assert isinstance(jpeg, bytes)
    assert jpeg.startswith(b"\xff\xd8")


def test_a_batch_of_8_equals_8_singles(handler: GradCAMHandler) -> None:
    requests = [({"body": bytearray(seeded(seed))}, {"gradcam-explain": str(1 + seed % 3)}) for seed in range(8)]
    together = serve(handler, *requests)
    for index, request in enumerate(requests):
        ours, alone = together.document(index), serve(handler, request).document()
        assert [e["index"] for e in ours["explanations"]] == [e["index"] for e in alone["explanations"]]
        assert len(ours["explanations"]) == 1 + index % 3
        for mine, other in zip(ours["explanations"], alone["explanations"], strict=True):
            np.testing.assert_allclose(mine["heatmap"], other["heatmap"], rtol=0, atol=1e-5)
            np.testing.assert_allclose(mine["probability"], other["probability"], rtol=1e-4)


def test_a_header_ends_the_stream_over_grpc(handler: GradCAMHandler) -> None:
    """Without the header, TorchServe kills the worker at StreamPredictions; with it, HTTP loses the status."""
    headers = {"data": {"content-type": ""}}

    served = serve(
        handler,
        ({"data": bytearray(seeded(1))}, headers),
        ({"data": bytearray(seeded(1))}, {**headers, "Host": "localhost"}),
        ({"data": bytearray(b"not an image")}, headers),
    )

    ends = [served.context.get_response_headers(index).get("ts_stream_next") for index in range(3)]
    assert ends == ["false", None, "false"]


@pytest.mark.parametrize("first", [0, 1])
def test_a_request_at_explanations_and_one_at_predictions_share_a_batch(handler: GradCAMHandler, first: int) -> None:
    # TorchServe adds the header at `/explanations`; the base class reads only the first request's.
    plain: dict[str, str] = {}
    explained = {"explain": "True"}
    headers = [plain, explained] if first == 0 else [explained, plain]
    served = serve(handler, *(({"body": bytearray(seeded(seed))}, headers[seed]) for seed in (0, 1)))
    for seed in (0, 1):
        document, alone = served.document(seed), serve(handler, ({"body": bytearray(seeded(seed))}, {})).document()
        assert [p["index"] for p in document["predictions"]] == [p["index"] for p in alone["predictions"]]
        np.testing.assert_allclose(
            document["explanations"][0]["heatmap"], alone["explanations"][0]["heatmap"], rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("described", [0, 1])
def test_a_describe_header_on_an_image_does_not_describe_the_batch(handler: GradCAMHandler, described: int) -> None:
    headers: list[dict[str, str]] = [{}, {}]
    headers[described] = {"describe": "True"}
    served = serve(handler, *(({"body": bytearray(seeded(seed))}, headers[seed]) for seed in (0, 1)))
    assert len(served.bodies) == 2, "one reply per request, or TorchServe answers all of them with 503"
    for seed in (0, 1):
        assert len(served.document(seed)["explanations"]) == 1


def test_a_genuine_describe_request_is_answered(handler: GradCAMHandler, archive: Path) -> None:
    served = serve(handler, ({}, {"describe": "True"}))
    (description,) = served.bodies
    described = json.loads(json.dumps(description, allow_nan=False))
    config = yaml.safe_load((archive / "model-config.yaml").read_text())["gradcam"]
    assert {key: described[key] for key in config} == config
    assert described["layer"] == "layer4.1.conv2"
    assert described["methods"][:3] == ["gradcam", "gradcam++", "xgradcam"]
    assert described["layers"][-3:] == ["layer4.1.bn2", "avgpool", "fc"]
    assert described["cut"] == "fx"
    assert described["decoder"] == "pillow"
    assert described["weights"] == "random (seed 0)"
    assert len(described["labels"]) == 1000
    assert described["labels"][281] == "tabby"
    assert described["device"] == "cpu"
    assert described["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert described["versions"]["pillow"] == PIL.__version__
    code = Path(__file__).resolve().parents[2] / "handler" / "gradcam" / "__init__.py"
    version = described["versions"]["gradcam-serving"]
    assert f'__version__ = "{version}"' in code.read_text(encoding="utf-8").splitlines()


def test_the_phases_may_be_called_one_by_one(handler: GradCAMHandler) -> None:
    # TorchServe's profiler calls the phases itself, one after the other.
    handler.context = Context("resnet18", "", {}, 2, None, "0.12.0", metrics=Metrics())
    handler.context.request_ids = {0: "good", 1: "bad"}
    handler.context.request_processor = [RequestProcessor({}), RequestProcessor({})]
    batch = handler.preprocess([{"body": bytearray(seeded(0))}, {"body": bytearray(b"no")}])
    groups, forward = handler.inference(batch)
    (completed,) = forward.passes
    assert completed.forward.logits.shape == (1, 1000)
    assert not completed.forward.logits.requires_grad
    with torch.no_grad():
        good, bad = handler.postprocess((groups, forward))
    assert json.loads(good)["explanations"][0]["evidence"] is True
    assert json.loads(bad)["error"]["code"] == "undecodable_image"


def test_batches_leave_no_state_behind(handler: GradCAMHandler) -> None:
    request = ({"body": bytearray(seeded(0))}, {"gradcam-explain": "2"})
    before = serve(handler, request).bodies
    serve(handler, ({"body": bytearray(seeded(1))}, {"explain": "True"}), ({}, {}), ({"body": bytearray(b"no")}, {}))
    assert serve(handler, request).bodies == before


def test_a_worker_without_settings_names_the_missing_block(archive: Path) -> None:
    context = worker_context(archive)
    context.model_yaml_config = {"batchSize": 8}
    with pytest.raises(ValueError, match="gradcam"):
        GradCAMHandler().initialize(context)


@pytest.mark.slow
def test_a_worker_is_warm_and_uses_at_most_one_thread_per_core(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered: list[int] = []
    results = Pipeline.results

    def counted(pipeline: Pipeline, explained: Explained) -> list[Any]:
        batch = results(pipeline, explained)
        answered.extend([len(batch)] if all(isinstance(result, Result) for result in batch) else [])
        return batch

    monkeypatch.setattr(Pipeline, "results", counted)
    monkeypatch.setattr(machine, "cores", lambda: 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        GradCAMHandler().initialize(worker_context(archive))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    assert answered == [1, 8]
