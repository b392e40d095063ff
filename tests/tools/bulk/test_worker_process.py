"""The process behind an actor of `explain_dataset.py`: what ends it costs nobody but who ended it."""

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
from gradcam.message import Request, Result
from gradcam.options import Options
from gradcam.pipeline import Pipeline
from tests.support import hostile, oracles
from tests.support.encoding import encoded
from tools.bulk import worker as explain_worker
from tools.bulk.worker_process import Engine, EngineError

# Answers as the real program does, but at once: with what it was sent, and as told.
STUB = """
import json, os, sys, time
from multiprocessing.connection import Connection

connection, options = Connection(int(sys.argv[1])), json.loads(sys.argv[2])
connection.send(options.get("refusal", 0.05))
try:
    while True:
        pictures = connection.recv()
        if b"die" in pictures:
            os._exit(9)
        if b"hang" in pictures:
            time.sleep(60)
        if len(pictures) > 1 and b"only alone" in pictures:
            os._exit(9)
        connection.send([{"method": f"{os.getpid()} {picture!r}"} for picture in pictures])
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
def stub(empty_archive: bytes) -> Iterator[Engine]:
    engine = Engine(empty_archive, STUB, {})
    yield engine
    engine.close()


def test_rows_come_in_the_order_of_the_pictures(stub: Engine) -> None:
    pid = stub.pid
    assert [row["method"] for row in stub.answer([b"a", "/b", b"c"])] == [f"{pid} b'a'", f"{pid} '/b'", f"{pid} b'c'"]
    assert stub.pid == pid


@pytest.mark.parametrize(("bad", "said"), [(b"die", "it ended with 9"), (b"hang", "it was not done in 0.2 s")])
def test_who_ends_the_process_fails_alone(stub: Engine, bad: bytes, said: str) -> None:
    first, refused, last = stub.answer([b"a", bad, b"c"])
    assert first["method"].endswith("b'a'")
    assert refused == {"error": {"code": "process_lost", "message": f"the picture was alone in a process: {said}"}}
    assert last["method"] == f"{stub.pid} b'c'"


def test_a_process_that_was_lost_by_chance_costs_no_row(stub: Engine) -> None:
    os.kill(stub.pid, signal.SIGKILL)
    assert [row["method"][-4:] for row in stub.answer([b"a", b"c"])] == ["b'a'", "b'c'"]
    (row,) = stub.answer([b"only alone"])
    assert row["method"].endswith("b'only alone'")


def test_the_process_goes_with_its_actor(empty_archive: bytes) -> None:
    engine = Engine(empty_archive, STUB, {})
    process = psutil.Process(engine.pid)
    folder = Path(process.cwd())
    engine.close()
    assert not process.is_running()
    assert not folder.exists()


def test_what_is_wrong_with_every_picture_is_said_at_once(empty_archive: bytes) -> None:
    with pytest.raises(EngineError, match=r"^no such method$"):
        Engine(empty_archive, STUB, {"refusal": "no such method"})
    with pytest.raises(EngineError, match="could not be loaded: it ended with 3"):
        Engine(empty_archive, "raise SystemExit(3)", {})


# ----------------------------------------------------------------------------- the real program


@pytest.fixture(scope="module")
def impatient(squash_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive, but for a second in which a picture is to be decoded."""
    impatient = tmp_path_factory.mktemp("impatient") / "impatient.mar"
    with zipfile.ZipFile(squash_archive) as source, zipfile.ZipFile(impatient, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "model-config.yaml":
                config = yaml.safe_load(content)
                config["gradcam"]["max_decode_seconds"] = 1
                content = yaml.safe_dump(config).encode()
            target.writestr(name, content)
    return impatient


@pytest.fixture(scope="module")
def engine(impatient: Path) -> Iterator[Engine]:
    program = Path(explain_worker.__file__).read_text(encoding="utf-8")
    engine = Engine(impatient.read_bytes(), program, {"explain": 2, "topk": 3})
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def pipeline(squash_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(squash_archive) as archive:
        archive.extractall(folder)
    return explain_worker.load(folder)


def test_a_row_says_what_the_pipeline_says(engine: Engine, pipeline: Pipeline, tmp_path: Path) -> None:
    picture = encoded(oracles.seeded_image(150, 120, seed=3), "PNG")
    (tmp_path / "picture.png").write_bytes(picture)
    (result,) = explain_worker.results(pipeline, [Request(picture, Options(explain=2, topk=3))])
    assert isinstance(result, Result)
    for row in engine.answer([picture, str(tmp_path / "picture.png")]):
        assert (row["width"], row["height"], row["region"]) == (150, 120, [0, 0, 150, 120])
        assert (row["method"], row["layers"]) == ("gradcam", ["layer4.1.conv2"])
        assert [entry["index"] for entry in row["predictions"]] == [entry.index for entry in result.predictions]
        assert len(row["predictions"]) == 3
        for said, expected in zip(row["explanations"], result.explanations, strict=True):
            assert (said["index"], said["label"]) == (expected.prediction.index, expected.prediction.label)
            assert said["probability"] == pytest.approx(expected.prediction.probability, rel=1e-5)
            assert (said["evidence"], said["peak"]) == (expected.evidence, list(expected.peak or ()))
            assert np.abs(np.array(said["heatmap"]) - expected.heatmap).max() <= 1e-5


def test_bad_pictures_are_rows_and_the_process_goes_on(engine: Engine, tmp_path: Path) -> None:
    pid = engine.pid
    good = encoded(oracles.seeded_image(80, 60, seed=4), "JPEG")
    # What ends this is a signal, which only a main thread gets; an actor's work is on another one.
    endless = hostile.many_comments(10_000_000, filled=False)
    rows = engine.answer([good, b"no picture", str(tmp_path / "none.png"), "a\0b", endless, good])
    assert [row.get("error", {}).get("code") for row in rows] == [
        None,
        "undecodable_image",
        "unreadable_file",
        "unreadable_file",
        "too_expensive",
        None,
    ]
    assert rows[0]["predictions"] == rows[-1]["predictions"]
    assert engine.pid == pid


def test_what_is_out_of_time_among_others_is_done_alone(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[list[bytes]] = []

    def late(pipeline: Pipeline, requests: list[Request | RequestError]) -> list[Result | RequestError]:
        pictures = [request.image for request in requests if isinstance(request, Request)]
        batches.append(pictures)
        together = len(pictures) > 1
        return [
            TooExpensive("late") if image == b"never" or (together and image == b"b") else InvalidRequest(repr(image))
            for image in pictures
        ]

    monkeypatch.setattr(explain_worker, "results", late)
    rows = explain_worker.answer(pipeline, [b"a", b"b", b"never", *[b"c"] * 6], Options())
    assert batches == [[b"a", b"b", b"never", *[b"c"] * 5], [b"c"], [b"b"], [b"never"]]
    assert [row["error"]["message"] for row in rows] == ["b'a'", "b'b'", "late", *["b'c'"] * 6]


def test_a_file_is_read_no_further_than_it_may_be_long(pipeline: Pipeline, tmp_path: Path) -> None:
    long = tmp_path / "long.bmp"
    with long.open("wb") as file:
        file.truncate(10 * 2**30)
    request = explain_worker.request(pipeline, str(long), Options())
    assert isinstance(request, Request)
    assert len(request.image) == pipeline.settings.max_image_bytes + 1


def test_options_that_no_picture_can_be_answered_with_are_refused(pipeline: Pipeline) -> None:
    explain_worker.check(pipeline, Options(targets=("Egyptian cat",), method="layercam"))
    with pytest.raises(UnknownName, match="there is no method 'gradcm'; did you mean 'gradcam'"):
        explain_worker.check(pipeline, Options(method="gradcm"))
