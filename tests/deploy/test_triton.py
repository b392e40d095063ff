"""KServe's InferenceService for an exported model on Triton."""

from __future__ import annotations

import copy

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.deploy.test_manifests import INFERENCE_SERVICE, closed, validate
from tests.support.manifests import Document, only, render
from tools.export.repository import MAX_BATCH


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Document:
    return only(render("triton", tmp_path_factory.mktemp("k")), "InferenceService", "gradcam-triton")


def test_it_is_valid(service: Document) -> None:
    version = yaml.safe_load(INFERENCE_SERVICE.read_text())
    schema = version["schema"]
    schema["properties"]["metadata"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    validator = Draft202012Validator(closed(schema))
    assert service["apiVersion"] == f"serving.kserve.io/{version['name']}"
    assert [error.message for error in validator.iter_errors(service)] == []
    wrong = copy.deepcopy(service)
    wrong["spec"]["predictor"]["model"]["storageUrl"] = "pvc://models"
    assert any("storageUrl" in error.message for error in validator.iter_errors(wrong))


def test_its_container_is_valid(service: Document) -> None:
    model = service["spec"]["predictor"]["model"]
    container = {name: model[name] for name in ("resources", "securityContext")} | {"name": "triton", "image": "triton"}
    validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": {"containers": [container]}})


def test_it_has_minimal_privileges_and_limits(service: Document) -> None:
    predictor = service["spec"]["predictor"]
    assert predictor["automountServiceAccountToken"] is False
    context = predictor["model"]["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["allowPrivilegeEscalation"] is context["privileged"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert predictor["model"]["resources"]["limits"].keys() >= {"cpu", "memory"}


def test_it_scales_by_the_batches_of_the_configuration(service: Document) -> None:
    assert service["spec"]["predictor"]["scaleTarget"] == MAX_BATCH
