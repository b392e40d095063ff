"""The client library against a real HTTP server that answers as the contract says."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tests.support.fake_server import CAT, CUP, UNDECODABLE, FakeServer, answer, explained
from tools.client.answers import Answer, Box, Explanation, ModelIdentity, Prediction
from tools.client.client import Client
from tools.client.endpoint import OptionValue, options_form, quote_label
from tools.client.errors import (
    ClientError,
    ImageError,
    ImageRejected,
    InvalidResponse,
    ModelNotFound,
    ServerUnavailable,
)


def test_explain_returns_the_answer_with_overlays(server: FakeServer) -> None:
    server.reply = lambda request: (200, answer(explained(CAT, b"overlay", peak=[3, 4])))
    with Client(server.url) as client:
        result = client.explain(b"image", overlay="jpeg")
    assert result == Answer(
        predictions=(Prediction(281, "tabby", 0.6157), Prediction(967, "espresso", 0.0249)),
        explanations=(Explanation(281, "tabby", 0.6157, peak=(3, 4), heatmap=[[0.0, 1.0]], overlay=b"overlay"),),
        method="gradcam",
        layer="layer4.1.conv2",
        document={
            "predictions": [CAT, CUP],
            "explanations": [{**CAT, "evidence": True, "heatmap": [[0.0, 1.0]], "peak": [3, 4]}],
            "method": "gradcam",
            "layer": "layer4.1.conv2",
            "image": {"width": 451, "height": 300, "region": [0, 0, 451, 300]},
        },
    )


def test_strength_contrast_boxes_and_model(server: FakeServer) -> None:
    model = {"name": "resnet18", "version": "1.0", "weights": "0123456789ab"}
    box = {"box": [1, 2, 30, 40], "area": 900, "mean": 0.75}
    body = answer(explained(CAT, b"overlay", strength=12.5, boxes=[box], versus=CUP))
    server.reply = lambda request: (200, {**body, "model": model})
    with Client(server.url) as client:
        result = client.explain(b"image")
    (explanation,) = result.explanations
    assert (explanation.strength, explanation.boxes) == (12.5, (Box((1, 2, 30, 40), 900, 0.75),))
    assert explanation.versus == Prediction(967, "espresso", 0.0249)
    assert result.model == ModelIdentity("resnet18", "1.0", "0123456789ab")
    assert result.document["model"] == model


def test_classes_are_predictions_then_other_explanations() -> None:
    cat, dog = Explanation(1, "cat", 0.5, None, None, None), Explanation(2, "dog", 0.1, None, None, None)
    predictions = (Prediction(3, "cup", 0.6), Prediction(1, "cat", 0.5))
    listed = Answer(predictions, (dog, cat), "gradcam", "layer4", {}).classes()
    assert list(listed) == [(predictions[0], None), (predictions[1], cat), (dog, dog)]


def test_without_overlays_and_maps(server: FakeServer) -> None:
    entry = {**CAT, "evidence": False, "peak": None}
    server.reply = lambda request: (200, answer(entry))
    with Client(server.url) as client:
        (explanation,) = client.explain(b"image", heatmap="none").explanations
    assert (explanation.peak, explanation.heatmap, explanation.overlay) == (None, None, None)
    assert server.forms() == [{"data": b"image", "heatmap": b"none"}]


def test_model_version_and_headers_are_sent(server: FakeServer) -> None:
    headers = {"Authorization": "Bearer secret"}
    with Client(f"{server.url}/behind/", "my model/2", version="1.0", headers=headers) as client:
        client.explain(b"image")
    (request,) = server.requests
    assert (request.path, request.authorization) == ("/behind/predictions/my%20model%2F2/1.0", "Bearer secret")


@pytest.mark.parametrize(
    ("options", "form"),
    [
        ({"topk": None, "method": "layercam"}, {"method": "layercam"}),
        ({"targets": [281, "bee, honey", 'a "b"']}, {"targets": '281,"bee, honey","a ""b"""'}),
        ({"targets": "281,tabby"}, {"targets": "281,tabby"}),
        ({"layer": ["layer3", "layer4"]}, {"layer": "layer3,layer4"}),
        ({"smooth": True, "alpha": 0.5, "explain": 0}, {"smooth": "true", "alpha": "0.5", "explain": "0"}),
    ],
    ids=str,
)
def test_options_become_text(options: dict[str, OptionValue], form: dict[str, str]) -> None:
    assert options_form(options) == form


def test_labels_are_quoted_as_the_option_reads_them() -> None:
    assert quote_label('a "b", c') == '"a ""b"", c"'


def test_a_rejection_has_its_code(server: FakeServer) -> None:
    server.reply = lambda request: (400, UNDECODABLE)
    with Client(server.url) as client, pytest.raises(ImageRejected) as rejected:
        client.explain(b"image")
    assert rejected.value.code == "undecodable_image"
    assert rejected.value.status == 400
    assert str(rejected.value) == f"undecodable_image: {rejected.value.message}"


@pytest.mark.parametrize(
    ("status", "body", "error", "message"),
    [
        (502, b"<html>", ImageError, "HTTP 502 Bad Gateway"),
        (
            404,
            {"code": 404, "type": "NotFound", "message": "no"},
            ModelNotFound,
            "has no model 'resnet18'",
        ),
        (200, {"tabby": 0.9}, InvalidResponse, 'not that of a Grad-CAM model: {"tabby": 0.9}'),
        (200, [1], InvalidResponse, "not that of a Grad-CAM model"),
        (200, b"no JSON", InvalidResponse, "not that of a Grad-CAM model: no JSON"),
        (200, answer({**CAT, "evidence": False, "peak": None}), InvalidResponse, "not that of a Grad-CAM model"),
    ],
)
def test_other_failures(server: FakeServer, status: int, body: Any, error: type[ClientError], message: str) -> None:
    server.reply = lambda request: (status, body)
    with Client(server.url) as client, pytest.raises(error, match=message) as raised:
        client.explain(b"image", overlay="jpeg")
    assert type(raised.value) is error


def test_no_server(closed_url: str) -> None:
    with Client(closed_url) as client, pytest.raises(ServerUnavailable, match=f"^No server answers at {closed_url}$"):
        client.explain(b"image")


def test_the_library_needs_only_requests() -> None:
    code = (
        "import sys, tools.client.client; "
        "sys.exit(' '.join({'torch', 'numpy', 'PIL', 'rich', 'gradcam', 'ts'} & set(sys.modules)) or None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
