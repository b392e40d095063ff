"""Keys of `model-config.yaml`: `--set`, their checks, and their documentation."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from gradcam.settings import Settings, SettingsError
from tests.support.settings import settings
from tools.archive.configuration import TORCHSERVE, configured, document, keys, parse
from tools.archive.packaging import FRONTEND
from tools.paths import ROOT

CONFIG: dict[str, Any] = {**FRONTEND, "gradcam": settings().to_mapping()}


def test_every_setting_and_every_key_of_torchserve_is_described() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(Settings)}
    described = {name: key.default for name, key in keys().items() if key.block}
    assert described == {name: None if default is dataclasses.MISSING else default for name, default in fields.items()}
    assert {key.name: key.default for key in TORCHSERVE if key.default is not None} == FRONTEND
    assert all(key.meaning.endswith(".") for key in keys().values())


def test_the_documentation_has_the_table_of_the_code() -> None:
    assert document() in (ROOT / "docs" / "own-network.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("assignment", "name", "value"),
    [
        ("max_passes=8", "max_passes", 8),
        ("gradcam.max_passes=8", "max_passes", 8),
        ("max_batch_seconds=2.5", "max_batch_seconds", 2.5),
        ("methods=gradcam,scorecam", "methods", ("gradcam", "scorecam")),
        ("methods=[gradcam, gradcam++]", "methods", ("gradcam", "gradcam++")),
        ("mean=0,0.5,1", "mean", (0.0, 0.5, 1.0)),
        ("transform=crop", "transform", "crop"),
        ("jobQueueSize=20", "jobQueueSize", 20),
        ("deviceIds=0,1", "deviceIds", [0, 1]),
        ("layer=a=b", "layer", "a=b"),
    ],
)
def test_values_have_the_types_of_yaml(assignment: str, name: str, value: Any) -> None:
    assert parse([assignment]) == {name: value}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("max_passes", "A setting must be KEY=VALUE, such as max_passes=8; got 'max_passes'"),
        ("max_pass=8", "Unknown setting 'max_pass'; did you mean 'max_passes'"),
        ("minWorker=1", "Unknown setting 'minWorker'; did you mean 'minWorkers'"),
        ("num_classes=5", "'num_classes' describes the network in the archive and cannot be set"),
        ("max_passes={", "The value of 'max_passes' must be YAML, got '{'"),
        ("max_passes=many", "gradcam: 'max_passes' must be of type int, got 'many'"),
        ("methods=gradcan", "gradcam: 'methods': Unknown method 'gradcan'; did you mean 'gradcam'"),
        ("batchSize=0", "'batchSize' must be greater than 0, got 0"),
        ("batchSize=yes", "'batchSize' must be of type int, got True"),
        ("deviceType=tpu", "'deviceType' must be cpu or gpu, got 'tpu'"),
        ("deviceIds=-1", "'deviceIds' must be a list of GPUs' numbers, got [-1]"),
        ("minWorkers=2", "'minWorkers' and 'maxWorkers' must both be set, or neither"),
        ("responseTimeout=10", "'max_batch_seconds' must be less than TorchServe's 'responseTimeout', 10 s"),
    ],
)
def test_an_invalid_assignment_is_named(assignment: str, message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        configured(CONFIG, parse([assignment]))
    assert str(raised.value).startswith(message)


def test_changes_leave_other_keys_alone() -> None:
    changed = configured(CONFIG, parse(["max_passes=8", "minWorkers=1", "maxWorkers=2", "methods=gradcam"]))
    assert changed == {
        **FRONTEND,
        "minWorkers": 1,
        "maxWorkers": 2,
        "gradcam": {**CONFIG["gradcam"], "max_passes": 8, "methods": ["gradcam"]},
    }
    with pytest.raises(SettingsError, match="'minWorkers' must be at most 'maxWorkers', got 3"):
        configured(changed, {"minWorkers": 3})
