"""The process behind an actor of `explain_dataset.py`: an image that kills it costs no other image."""

from __future__ import annotations

import io
import os
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from gradcam.errors import InvalidRequest, RequestError, TooExpensive, UnknownName
from gradcam.images.pixels import RawPixels
from gradcam.message import Request, Result
from gradcam.options import Options
from gradcam.pipeline import Pipeline
from tests.support import hostile, oracles
from tests.support.encoding import encoded
from tools.archive.rewrite import reconfigure
from tools.bulk import worker
from tools.bulk.worker_process import WorkerError, WorkerProcess

# Answers like the real program, but at once, with what it received.
STUB = """
import json, os, sys, time
from multiprocessing.connection import Connection

connection, options = Connection(int(sys.argv[1])), json.loads(sys.argv[2])
connection.send(options.get("error", 0.05))
try:
    while True:
        images = connection.recv()
        if b"die" in images:
            os._exit(9)
        if b"hang" in images:
            time.sleep(60)
        if len(images) > 1 and b"only alone" in images:
            os._exit(9)
        connection.send([{"method": f"{os.getpid()} {image!r}"} for image in images])
except EOFError:
    pass
"""


@pytest.fixture(scope="module")
def empty_archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model-config.yaml", "")
    return buffer.getvalue()


@pytest.fixture
def stub(empty_archive: bytes) -> Iterator[WorkerProcess]:
    process = WorkerProcess(empty_archive, STUB, {})
    yield process
    process.close()


def test_rows_come_in_the_order_of_the_images(stub: WorkerProcess) -> None:
    pid = stub.pid
    assert [row["method"] for row in stub.explain([b"a", "/b", b"c"])] == [f"{pid} b'a'", f"{pid} '/b'", f"{pid} b'c'"]
    assert stub.pid == pid


@pytest.mark.parametrize(("bad", "reason"), [(b"die", "exit status 9"), (b"hang", "no answer within 0.2 s")])
def test_image_that_kills_the_process_fails_alone(stub: WorkerProcess, bad: bytes, reason: str) -> None:
    first, failed, last = stub.explain([b"a", bad, b"c"])
    assert first["method"].endswith("b'a'")
    message = f"The process was lost while it explained only this image: {reason}"
    assert failed == {"error": {"code": "process_lost", "message": message}}
    assert last["method"] == f"{stub.pid} b'c'"


def test_process_lost_by_chance_costs_no_row(stub: WorkerProcess) -> None:
    os.kill(stub.pid, signal.SIGKILL)
    assert [row["method"][-4:] for row in stub.explain([b"a", b"c"])] == ["b'a'", "b'c'"]
    (row,) = stub.explain([b"only alone"])
    assert row["method"].endswith("b'only alone'")


def test_close_ends_the_process_and_removes_its_folder(empty_archive: bytes) -> None:
    worker_process = WorkerProcess(empty_archive, STUB, {})
    process = psutil.Process(worker_process.pid)
    folder = Path(process.cwd())
    worker_process.close()
    assert not process.is_running()
    assert not folder.exists()


def test_error_of_every_image_is_raised_at_start(empty_archive: bytes) -> None:
    with pytest.raises(WorkerError, match=r"^no such method$"):
        WorkerProcess(empty_archive, STUB, {"error": "no such method"})
    with pytest.raises(WorkerError, match="Cannot load the archive: exit status 3"):
        WorkerProcess(empty_archive, "raise SystemExit(3)", {})


# ----------------------------------------------------------------------------- the real program


@pytest.fixture(scope="module")
def short_limit_archive(squash_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive with a time limit of one second for decoding an image."""
    with zipfile.ZipFile(squash_archive) as archive:
        settings = yaml.safe_load(archive.read("model-config.yaml"))["gradcam"]
    target = tmp_path_factory.mktemp("short") / "short.mar"
    return reconfigure(squash_archive, target, gradcam={**settings, "max_decode_seconds": 1})


@pytest.fixture(scope="module")
def process(short_limit_archive: Path) -> Iterator[WorkerProcess]:
    program = Path(worker.__file__).read_text(encoding="utf-8")
    process = WorkerProcess(short_limit_archive.read_bytes(), program, {"explain": 2, "topk": 3})
    yield process
    process.close()


@pytest.fixture(scope="module")
def pipeline(squash_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(squash_archive) as archive:
        archive.extractall(folder)
    return worker.load(folder)


def weights_digest(archive: Path) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 of the file that the archive was built from."""
    with zipfile.ZipFile(archive) as opened:
        settings = yaml.safe_load(opened.read("model-config.yaml"))["gradcam"]
    return str(settings["weights_sha256"])[:12]


def test_row_equals_the_pipelines_result(
    process: WorkerProcess, pipeline: Pipeline, squash_archive: Path, tmp_path: Path
) -> None:
    image = encoded(oracles.seeded_image(150, 120, seed=3), "PNG")
    (tmp_path / "image.png").write_bytes(image)
    (result,) = worker.results(pipeline, [Request(image, Options(explain=2, topk=3))])
    assert isinstance(result, Result)
    for row in process.explain([image, str(tmp_path / "image.png")]):
        assert (row["width"], row["height"], row["region"]) == (150, 120, [0, 0, 150, 120])
        assert (row["method"], row["layers"]) == ("gradcam", ["layer4.1.conv2"])
        assert row["label"] == result.predictions[0].label
        assert row["probability"] == pytest.approx(result.predictions[0].probability, rel=1e-5)
        assert row["model"] == {"name": "squash", "version": "1.0", "weights": weights_digest(squash_archive)}
        assert [entry["index"] for entry in row["predictions"]] == [entry.index for entry in result.predictions]
        assert len(row["predictions"]) == 3
        for explanation, expected in zip(row["explanations"], result.explanations, strict=True):
            prediction = expected.prediction
            assert (explanation["index"], explanation["label"]) == (
                expected.prediction.index,
                expected.prediction.label,
            )
            assert explanation["probability"] == pytest.approx(prediction.probability, rel=1e-5)
            assert explanation["strength"] == pytest.approx(expected.strength, rel=1e-5)
            assert (explanation["evidence"], explanation["peak"]) == (expected.evidence, list(expected.peak or ()))
            assert np.abs(np.array(explanation["heatmap"]) - expected.heatmap).max() <= 1e-5


def test_invalid_images_are_rows_and_the_process_continues(process: WorkerProcess, tmp_path: Path) -> None:
    pid = process.pid
    good = encoded(oracles.seeded_image(80, 60, seed=4), "JPEG")
    # A signal ends its decoding, which only a main thread receives; an actor works in another thread.
    endless = hostile.many_comments(10_000_000, filled=False)
    rows = process.explain([good, b"no image", str(tmp_path / "none.png"), "a\0b", endless, good])
    assert [row.get("error", {}).get("code") for row in rows] == [
        None,
        "undecodable_image",
        "unreadable_file",
        "unreadable_file",
        "too_expensive",
        None,
    ]
    assert rows[0]["predictions"] == rows[-1]["predictions"]
    assert process.pid == pid


def test_image_timed_out_in_a_batch_is_explained_alone(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[list[bytes | RawPixels]] = []

    def timed_out(pipeline: Pipeline, requests: list[Request | RequestError]) -> list[Result | RequestError]:
        images = [request.image for request in requests if isinstance(request, Request)]
        batches.append(images)
        together = len(images) > 1
        return [
            TooExpensive("too slow")
            if image == b"never" or (together and image == b"b")
            else InvalidRequest(repr(image))
            for image in images
        ]

    monkeypatch.setattr(worker, "results", timed_out)
    rows = worker.explain(pipeline, [b"a", b"b", b"never", *[b"c"] * 6], Options())
    assert batches == [[b"a", b"b", b"never", *[b"c"] * 5], [b"c"], [b"b"], [b"never"]]
    assert [row["error"]["message"] for row in rows] == ["b'a'", "b'b'", "too slow", *["b'c'"] * 6]


def test_file_is_not_read_beyond_the_size_limit(pipeline: Pipeline, tmp_path: Path) -> None:
    long = tmp_path / "long.bmp"
    with long.open("wb") as file:
        file.truncate(10 * 2**30)
    request = worker.request(pipeline, str(long), Options())
    assert isinstance(request, Request)
    assert len(request.image) == pipeline.settings.max_image_bytes + 1


def test_options_that_fail_for_every_image_are_rejected(pipeline: Pipeline) -> None:
    worker.check(pipeline, Options(targets=("Egyptian cat",), method="layercam"))
    with pytest.raises(UnknownName, match="Unknown method 'gradcm'; did you mean 'gradcam'"):
        worker.check(pipeline, Options(method="gradcm"))
