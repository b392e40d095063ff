"""What an operator sees of the server: metrics, the log of rejected requests, and the health check."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import http_client
from tests.support.encoding import encoded
from tests.support.served import Call, Model, error, sample
from tools.server.processes import wait_until
from tools.server.server import Server

IMAGE = encoded(sample(71))
HEALTHCHECK = Path(__file__).resolve().parents[2] / "scripts" / "healthcheck.py"

# Metrics and log lines arrive after the response, through pipes and files.
SECONDS = 20.0

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(server: Server) -> Samples:
    """Return the metrics as Prometheus scrapes them, without the label `Hostname`."""
    text = http_client.get(f"{server.metrics_url}/metrics").text
    samples = {}
    for name, labels, value in re.findall(r"^(\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        kept = frozenset(label for label in re.findall(r'(\w+)="([^"]*)"', labels) if label[0] != "Hostname")
        samples[name, kept] = float(value)
    return samples


def value(samples: Samples, name: str, model: str, **labels: str) -> float:
    return samples.get((name, frozenset({"ModelName": model, "Level": "Model", **labels}.items())), 0.0)


def recorded(server: Server, model: str, batches: float) -> Samples:
    """Return the metrics once the model has recorded this many batches; the render time is recorded last."""
    assert wait_until(lambda: value(scraped(server), "gradcam_render_seconds_count", model) >= batches, SECONDS)
    # A scrape is not atomic: only the next one is sure to contain the whole batch.
    return scraped(server)


def settled(model: Model, requests_per_batch: int = 1) -> Samples:
    """Return the metrics once they contain every batch so far, by sending one more batch and waiting for its end.

    The worker writes log lines and metrics to one pipe, and the log line of a rejected request comes after the batch's
    size. Once the line is in the log, the count of batch sizes is final; the last batch is complete when as many render
    times are recorded.
    """
    responses = model.post_together([Call(b"not an image")] * requests_per_batch)
    for response in responses:
        logged(model.server, response.headers["x-request-id"])
    batches = value(scraped(model.server), "gradcam_batch_size_count", model.name)
    return recorded(model.server, model.name, batches)


def test_phases_are_measured_in_seconds(squash: Model) -> None:
    before = settled(squash)
    batches = value(before, "gradcam_render_seconds_count", "squash")
    start = time.monotonic()

    for _ in range(5):
        squash.predict(IMAGE)

    seconds = time.monotonic() - start
    after = recorded(squash.server, "squash", batches + 5)
    total = 0.0
    for phase in ("decode", "trunk", "explain", "render"):
        name = f"gradcam_{phase}_seconds"
        counts, sums = (
            value(after, f"{name}_{part}", "squash") - value(before, f"{name}_{part}", "squash")
            for part in ("count", "sum")
        )
        assert counts == 5
        assert 0 < sums < seconds
        total += sums
        infinite = value(after, f"{name}_bucket", "squash", le="+Inf")
        assert infinite == value(after, f"{name}_count", "squash")
    # The network's forward pass is part of the total.
    assert total > 0.2 * seconds


def test_batches_are_counted_by_size(batched: Model) -> None:
    before = settled(batched, requests_per_batch=8)
    batches = value(before, "gradcam_batch_size_count", "batched")

    batched.post_together([Call(IMAGE)] * 8)

    after = recorded(batched.server, "batched", batches + 1)
    assert value(after, "gradcam_batch_size_count", "batched") == batches + 1
    assert value(after, "gradcam_batch_size_sum", "batched") == value(before, "gradcam_batch_size_sum", "batched") + 8


def test_errors_are_counted_by_code(squash: Model) -> None:
    before = settled(squash)
    batches = value(before, "gradcam_render_seconds_count", "squash")

    error(squash.post(Call(b"not an image")), 400)
    error(squash.post(Call(b"")), 400)
    error(squash.post(Call(IMAGE, {"Gradcam-Targets": "no such class"})), 422)
    squash.predict(IMAGE)

    after = recorded(squash.server, "squash", batches + 4)
    expected = {"undecodable_image": 2, "unknown_class": 1, "invalid_option": 0}
    for code, count in expected.items():
        first, last = (value(samples, "gradcam_errors_total", "squash", Code=code) for samples in (before, after))
        assert last - first == count, code


def test_maps_without_evidence_are_counted(squash: Model) -> None:
    name = "gradcam_maps_without_evidence_total"
    before = settled(squash)
    batches = value(before, "gradcam_render_seconds_count", "squash")

    # Evidence for a class in one method is evidence against it in the other, so some maps have none.
    targets = ",".join(map(str, range(100)))
    answers = [squash.predict(IMAGE, targets=targets, method=method) for method in ("gradcam", "counterfactual")]

    empty = sum(not entry["evidence"] for answer in answers for entry in answer["explanations"])
    assert empty
    after = recorded(squash.server, "squash", batches + 2)
    assert value(after, name, "squash") - value(before, name, "squash") == empty


# ----------------------------------------------------------------------------- log


def rejections(server: Server) -> Iterator[dict[str, Any]]:
    """Yield the log entries of rejected requests."""
    assert server.log_dir is not None
    for line in (server.log_dir / "model_log.log").read_text(encoding="utf-8").splitlines():
        if match := re.search(r'MODEL_LOG - (\{"event": "refused".*\})$', line):
            yield json.loads(match[1])


def logged(server: Server, request_id: str) -> list[dict[str, Any]]:
    """Return the log entries of a rejected request, once there are any."""
    assert wait_until(lambda: any(line["request_id"] == request_id for line in rejections(server)), SECONDS)
    return [line for line in rejections(server) if line["request_id"] == request_id]


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        (Call(b"not an image"), 400, "undecodable_image"),
        (Call(IMAGE, {"Gradcam-Method": "gradcan\x7f{}"}), 422, "unknown_method"),
        (Call(json={"image": base64.b64encode(IMAGE).decode(), "targets": "猫\n\u2028"}), 422, "unknown_class"),
    ],
)
def test_rejected_request_is_logged_as_one_line_of_json(call: Call, status: int, code: str, squash: Model) -> None:
    response = squash.post(call)

    _, message = error(response, status)
    (line,) = logged(squash.server, response.headers["x-request-id"])
    assert line == {
        "event": "refused",
        "request_id": response.headers["x-request-id"],
        "status": status,
        "code": code,
        "message": message,
    }


def test_log_never_contains_the_image(squash: Model) -> None:
    text = base64.b64encode(IMAGE).decode()
    documents: list[Any] = [{"image": [text]}, {"image": text, "topk": text}, {"image": f"%{text}"}]

    for body in documents:
        response = squash.post(Call(json=body))
        (line,) = logged(squash.server, response.headers["x-request-id"])
        assert len(line["message"]) < 300
        assert text[100:140] not in json.dumps(line)


def test_every_rejected_instance_is_logged(squash: Model) -> None:
    instances = [{"image": base64.b64encode(IMAGE).decode()}, {"image": "%"}, {"image": "", "topk": 0}]
    response = squash.post_json("/v1/models/squash:predict", {"instances": instances})

    assert response.status_code == 200
    codes = [line["code"] for line in logged(squash.server, response.headers["x-request-id"])]
    assert codes == ["invalid_request", "invalid_option"]


# ----------------------------------------------------------------------------- health


def healthcheck(url: str, model: str) -> subprocess.CompletedProcess[str]:
    """Run the health check with the standard library only, as in a container without this repository."""
    command: list[str | Path] = [
        sys.executable,
        "-I",
        "-S",
        HEALTHCHECK,
        "--url",
        url,
        "--model",
        model,
        "--timeout",
        "20",
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_server_that_classifies_is_healthy(squash: Model) -> None:
    completed = healthcheck(squash.server.inference_url, "squash")

    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "squash can classify\n", "")


def test_server_without_the_model_is_unhealthy(squash: Model) -> None:
    completed = healthcheck(squash.server.inference_url, "other")

    assert completed.returncode == 1
    assert "other cannot classify: HTTP 404" in completed.stdout
    assert "Model not found: other" in completed.stdout
    assert completed.stderr == ""


def test_port_without_a_server_is_unhealthy() -> None:
    completed = healthcheck("http://127.0.0.1:9", "squash")

    assert completed.returncode == 1
    assert "squash cannot classify: <urlopen error" in completed.stdout
    assert completed.stderr == ""


def test_unexpected_answer_is_unhealthy(squash: Model) -> None:
    # The metrics API answers every path with something else.
    completed = healthcheck(squash.server.metrics_url, "squash")

    assert completed.returncode == 1
    assert completed.stdout.startswith("squash cannot classify: ")
    assert completed.stderr == ""


def test_healthcheck_reads_the_model_from_the_environment(squash: Model) -> None:
    command: list[str | Path] = [sys.executable, "-I", "-S", HEALTHCHECK, "--url", squash.server.inference_url]
    environment = {key: value for key, value in os.environ.items() if key != "MODEL"}
    named = subprocess.run(command, env=environment | {"MODEL": "squash"}, capture_output=True, text=True, check=False)
    nameless = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert (named.returncode, named.stdout) == (0, "squash can classify\n")
    assert (nameless.returncode, nameless.stdout) == (2, "")
    assert "--model NAME is required unless the environment variable MODEL is set" in nameless.stderr
