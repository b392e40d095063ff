"""What an operator sees of the server: metrics, the log of refused requests, the health check."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.served import Call, Model, encoded, error, sample
from tools.server.server import Server

PICTURE = encoded(sample(71))
HEALTHCHECK = Path(__file__).resolve().parents[2] / "scripts" / "healthcheck.py"
# Metrics and log lines travel through files and pipes behind the answers.
PATIENCE = 20.0

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(server: Server) -> Samples:
    """Reads the metrics as Prometheus does, without the label of the host."""
    with requests.Session() as session:
        session.trust_env = False
        text = session.get(f"{server.metrics_url}/metrics", timeout=30).text
    samples = {}
    for name, labels, value in re.findall(r"^(\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        read = frozenset(label for label in re.findall(r'(\w+)="([^"]*)"', labels) if label[0] != "Hostname")
        samples[name, read] = float(value)
    return samples


def value(samples: Samples, name: str, model: str, **labels: str) -> float:
    return samples.get((name, frozenset({"ModelName": model, "Level": "Model", **labels}.items())), 0.0)


def poll(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)


def settled(server: Server, model: str, batches: float) -> Samples:
    """Returns the metrics once the model has recorded so many batches to their end."""
    poll(lambda: value(scraped(server), "gradcam_render_seconds_count", model) >= batches)
    time.sleep(0.5)  # what is recorded with the last batch
    return scraped(server)


def test_phases_are_measured_in_seconds(squash: Model) -> None:
    squash.ask(PICTURE)
    time.sleep(1)
    before = scraped(squash.server)
    batches = value(before, "gradcam_render_seconds_count", "squash")
    start = time.monotonic()

    for _ in range(5):
        squash.ask(PICTURE)

    took = time.monotonic() - start
    after = settled(squash.server, "squash", batches + 5)
    spent = 0.0
    for phase in ("decode", "trunk", "explain", "render"):
        name = f"gradcam_{phase}_seconds"
        counts, sums = (
            value(after, f"{name}_{part}", "squash") - value(before, f"{name}_{part}", "squash")
            for part in ("count", "sum")
        )
        assert counts == 5
        assert 0 < sums < took
        spent += sums
        infinite = value(after, f"{name}_bucket", "squash", le="+Inf")
        assert infinite == value(after, f"{name}_count", "squash")
    # The network has to be in there.
    assert spent > 0.2 * took


def test_batches_are_counted_by_their_size(batched: Model) -> None:
    time.sleep(1)
    before = scraped(batched.server)
    batches = value(before, "gradcam_batch_size_count", "batched")

    batched.post_together([Call(PICTURE)] * 8)

    after = settled(batched.server, "batched", batches + 1)
    assert value(after, "gradcam_batch_size_count", "batched") == batches + 1
    assert value(after, "gradcam_batch_size_sum", "batched") == value(before, "gradcam_batch_size_sum", "batched") + 8


def test_errors_are_counted_by_their_code(squash: Model) -> None:
    time.sleep(1)
    before = scraped(squash.server)
    batches = value(before, "gradcam_render_seconds_count", "squash")

    error(squash.post(Call(b"not a picture")), 400)
    error(squash.post(Call(b"")), 400)
    error(squash.post(Call(PICTURE, {"Gradcam-Targets": "nothing of the kind"})), 422)
    squash.ask(PICTURE)

    after = settled(squash.server, "squash", batches + 4)
    expected = {"undecodable_image": 2, "unknown_class": 1, "invalid_option": 0}
    for code, count in expected.items():
        counted = [value(samples, "gradcam_errors_total", "squash", Code=code) for samples in (before, after)]
        assert counted[1] - counted[0] == count, code


def test_maps_without_evidence_are_counted(squash: Model) -> None:
    time.sleep(1)
    name = "gradcam_maps_without_evidence_total"
    before = scraped(squash.server)
    batches = value(before, "gradcam_render_seconds_count", "squash")

    # What speaks against a class in one method speaks for it in the other: some class has nothing in one of them.
    answers = [squash.ask(PICTURE, targets=",".join(map(str, range(100))), method=method) for method in BOTH]

    empty = sum(not entry["evidence"] for answer in answers for entry in answer["explanations"])
    assert empty
    after = settled(squash.server, "squash", batches + 2)
    assert value(after, name, "squash") - value(before, name, "squash") == empty


BOTH = ("gradcam", "counterfactual")


# ----------------------------------------------------------------------------- log


def refusals(server: Server) -> Iterator[dict[str, Any]]:
    """Yields what the log says of refused requests."""
    assert server.log_dir is not None
    for line in (server.log_dir / "model_log.log").read_text(encoding="utf-8").splitlines():
        if match := re.search(r'MODEL_LOG - (\{"event": "refused".*\})$', line):
            yield json.loads(match[1])


def logged(server: Server, request_id: str) -> list[dict[str, Any]]:
    poll(lambda: any(line["request_id"] == request_id for line in refusals(server)))
    return [line for line in refusals(server) if line["request_id"] == request_id]


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        (Call(b"not a picture"), 400, "undecodable_image"),
        (Call(PICTURE, {"Gradcam-Method": "gradcan\x7f{}"}), 422, "unknown_method"),
        (Call(document={"image": base64.b64encode(PICTURE).decode(), "targets": "猫\n\u2028"}), 422, "unknown_class"),
    ],
)
def test_a_refused_request_is_one_line_of_json(call: Call, status: int, code: str, squash: Model) -> None:
    response = squash.post(call)

    said = error(response, status)
    (line,) = logged(squash.server, response.headers["x-request-id"])
    assert line == {
        "event": "refused",
        "request_id": response.headers["x-request-id"],
        "status": status,
        "code": code,
        "message": said[1],
    }


def test_the_log_never_holds_the_picture(squash: Model) -> None:
    text = base64.b64encode(PICTURE).decode()
    documents: list[Any] = [{"image": [text]}, {"image": text, "topk": text}, {"image": f"%{text}"}]

    for body in documents:
        response = squash.post(Call(document=body))
        (line,) = logged(squash.server, response.headers["x-request-id"])
        assert len(line["message"]) < 300
        assert text[100:140] not in json.dumps(line)


def test_every_refused_instance_is_a_line(squash: Model) -> None:
    instances = [{"image": base64.b64encode(PICTURE).decode()}, {"image": "%"}, {"image": "", "topk": 0}]
    with requests.Session() as session:
        session.trust_env = False
        url = f"{squash.server.inference_url}/v1/models/squash:predict"
        response = session.post(url, json={"instances": instances}, timeout=60)

    assert response.status_code == 200
    codes = [line["code"] for line in logged(squash.server, response.headers["x-request-id"])]
    assert codes == ["invalid_request", "invalid_option"]


# ----------------------------------------------------------------------------- health


def healthcheck(url: str, model: str) -> subprocess.CompletedProcess[str]:
    """Runs it with nothing but Python, as in an image that has nothing of this repository."""
    command = [sys.executable, "-I", "-S", HEALTHCHECK, "--url", url, "--model", model, "--timeout", "20"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_server_that_can_classify_is_healthy(squash: Model) -> None:
    done = healthcheck(squash.server.inference_url, "squash")

    assert (done.returncode, done.stdout, done.stderr) == (0, "squash can classify\n", "")


def test_a_server_without_the_model_is_not_healthy(squash: Model) -> None:
    done = healthcheck(squash.server.inference_url, "other")

    assert done.returncode == 1
    assert "other cannot classify: HTTP 404" in done.stdout
    assert "Model not found: other" in done.stdout
    assert done.stderr == ""


def test_a_port_without_a_server_is_not_healthy() -> None:
    done = healthcheck("http://127.0.0.1:9", "squash")

    assert done.returncode == 1
    assert "squash cannot classify: <urlopen error" in done.stdout
    assert done.stderr == ""


def test_another_answer_is_not_healthy(squash: Model) -> None:
    # The metrics have another kind of answer at every address.
    done = healthcheck(squash.server.metrics_url, "squash")

    assert done.returncode == 1
    assert done.stdout.startswith("squash cannot classify: ")
    assert done.stderr == ""


def test_the_model_may_be_that_of_the_environment(squash: Model) -> None:
    command = [sys.executable, "-I", "-S", HEALTHCHECK, "--url", squash.server.inference_url]
    environment = {key: value for key, value in os.environ.items() if key != "MODEL"}
    named = subprocess.run(command, env=environment | {"MODEL": "squash"}, capture_output=True, text=True, check=False)
    nameless = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert (named.returncode, named.stdout) == (0, "squash can classify\n")
    assert (nameless.returncode, nameless.stdout) == (2, "")
    assert "--model NAME is required unless the environment variable MODEL is set" in nameless.stderr
