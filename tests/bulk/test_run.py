"""The command `explain_dataset.py` on Ray, with nodes, actors, and the command itself killed midway."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from tools.paths import ROOT

pytest.importorskip("ray", reason="Ray is not installed: make dataset-test")

import pyarrow as pa
import pyarrow.parquet as pq
from ray import cloudpickle
from ray.cluster_utils import Cluster
from ts.context import Context, RequestProcessor

import tools.bulk
from gradcam.message import Request, Result
from gradcam.options import Options
from gradcam_handler import GradCAMHandler
from tests.support import oracles
from tools.bulk import worker
from tools.bulk.actor import BulkActor, BulkJob
from tools.bulk.explain_dataset import exclude_done
from tools.server.processes import command_line

COMMAND = ROOT / "scripts" / "explain_dataset.py"
ACTOR = "ray::MapWorker(MapBatches(BulkActor))"
GOOD = 30
ROWS_PER_FILE = 2
PARTS = (GOOD + 2) // ROWS_PER_FILE
# As in the server's tests: float32 in batches of different size, and JSON's six decimals.
TOLERANCE = 1e-5
SECONDS = 240

Row = dict[str, Any]
STARTED: list[subprocess.Popen[str]] = []


class NoMetrics:
    """Stands in for TorchServe's metrics."""

    def add_time(self, *args: Any) -> None: ...

    def add_metric(self, *args: Any, **kwargs: Any) -> None: ...


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Valid images in two folders, one corrupt image, and one empty file."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "more").mkdir()
    for number in range(GOOD):
        path = folder / ("more" if number % 2 else "") / f"{number:02}.png"
        oracles.seeded_image(120 + number, 90, seed=number).save(path)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    (folder / "empty.gif").touch()
    return folder


@pytest.fixture(scope="module")
def unpacked(squash_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(squash_archive) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def expected(images: Path, unpacked: Path) -> dict[str, Result]:
    """The pipeline's result for each valid image, without Ray and worker processes."""
    pipeline = worker.load(unpacked)
    answers = {}
    for path in sorted(images.rglob("*.png")):
        (answer,) = worker.results(pipeline, [Request(path.read_bytes(), Options())])
        assert isinstance(answer, Result)
        answers[str(path.relative_to(images))] = answer
    return answers


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head node without cores, and two nodes with room for one actor each."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


def start(images: Path, archive: Path, output: Path, *arguments: str) -> subprocess.Popen[str]:
    common = ["--archive", str(archive), "--output", str(output), "--rows-per-file", str(ROWS_PER_FILE)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "handler"), *sys.path])}
    process = subprocess.Popen(
        [sys.executable, str(COMMAND), str(images), *common, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    STARTED.append(process)
    return process


@pytest.fixture(scope="module", autouse=True)
def _stop_commands() -> Iterator[None]:
    """Kill commands that a failed test has left."""
    yield
    for process in STARTED:
        with process:
            process.kill()


def finish(process: subprocess.Popen[str], status: int) -> str:
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == status, output
    return output


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (value := condition()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def parts(output: Path) -> list[Path]:
    return sorted(output.glob("part-*.parquet"))


def workers(node: Any = None) -> list[psutil.Process]:
    """Return Ray's actors of one node, or of all nodes that this test started."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid) if node else psutil.Process()
    return [process for process in raylet.children(recursive=True) if ACTOR in " ".join(command_line(process))]


def read(output: Path) -> dict[str, Row]:
    rows = [row for part in parts(output) for row in pq.read_table(part).to_pylist()]
    by_path = {row["path"]: row for row in rows}
    assert len(rows) == len(by_path), "an image has two rows"
    return by_path


def check(rows: dict[str, Row], expected: dict[str, Result]) -> None:
    """Compare an output with the pipeline's results, heatmap by heatmap."""
    assert rows.keys() == {*expected, "broken.jpg", "empty.gif"}
    for path, answer in expected.items():
        row = rows[path]
        assert row["error"] is None
        assert (row["width"], row["height"], row["region"]) == (answer.width, answer.height, [0, 0, answer.width, 90])
        assert (row["method"], row["layers"]) == ("gradcam", ["layer4.1.conv2"])
        assert [(entry["index"], entry["label"]) for entry in row["predictions"]] == [
            (entry.index, entry.label) for entry in answer.predictions
        ]
        for actual, prediction in zip(row["predictions"], answer.predictions, strict=True):
            assert actual["probability"] == pytest.approx(prediction.probability, abs=2e-6)
        ((actual,), (explanation,)) = row["explanations"], answer.explanations
        assert (actual["index"], actual["evidence"]) == (explanation.prediction.index, explanation.evidence)
        assert actual["peak"] == list(explanation.peak or ())
        assert np.abs(np.array(actual["heatmap"]) - explanation.heatmap).max() <= TOLERANCE
        assert np.max(actual["heatmap"]) == 1
    for path in ("broken.jpg", "empty.gif"):
        assert rows[path]["error"]["code"] == "undecodable_image"
        assert (rows[path]["predictions"], rows[path]["explanations"]) == (None, None)


@pytest.fixture(scope="module")
def explained(
    images: Path, squash_archive: Path, expected: dict[str, Result], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Row]:
    """The rows of a run on this machine whose command was killed midway and then started again."""
    output = tmp_path_factory.mktemp("explained")
    first = start(images, squash_archive, output, "--actors", "1")
    wait_for(lambda: len(parts(output)) >= 3, first)
    first.kill()
    first.communicate()
    before = {part: (part.stat().st_ino, part.stat().st_mtime_ns) for part in parts(output)}
    assert 3 <= len(before) < PARTS
    printed = finish(start(images, squash_archive, output, "--actors", "1"), 1)
    # An actor outlives the command and may have written more files since.
    (missing,) = re.findall(rf"{GOOD + 2} images, (\d+) of them to explain", printed)
    assert 0 < int(missing) <= GOOD + 2 - ROWS_PER_FILE * len(before)
    assert f"{GOOD + 2} images, {GOOD} explained\n  2 × undecodable_image\n" in printed
    assert {part: (part.stat().st_ino, part.stat().st_mtime_ns) for part in before} == before
    assert len(parts(output)) == PARTS
    rows = read(output)
    printed = finish(start(images, squash_archive, output), 1)
    assert "0 of them to explain" in printed
    printed = finish(start(images, squash_archive, output, "--explain", "2"), 2)
    assert "contains rows from another options" in printed
    return rows


def test_killed_run_continues(explained: dict[str, Row], expected: dict[str, Result]) -> None:
    check(explained, expected)


def test_rows_equal_the_handlers_answers(explained: dict[str, Row], images: Path, unpacked: Path) -> None:
    handler = GradCAMHandler()
    manifest = json.loads((unpacked / "MAR-INF" / "MANIFEST.json").read_text())
    config = yaml.safe_load((unpacked / "model-config.yaml").read_text())
    context = Context("squash", str(unpacked), manifest, 8, None, "0.12.0", metrics=NoMetrics())
    context.model_yaml_config = config
    handler.initialize(context)
    paths = sorted(explained)
    batch = Context("squash", "", {}, len(paths), None, "0.12.0", metrics=NoMetrics())
    batch.request_ids = dict(enumerate(paths))
    batch.request_processor = [RequestProcessor({}) for _ in paths]
    bodies = handler.handle([{"body": (images / path).read_bytes()} for path in paths], batch)
    for path, body in zip(paths, bodies, strict=True):
        answer, row = json.loads(body), explained[path]
        if row["error"]:
            assert answer == {"error": row["error"]}
            continue
        assert (answer["method"], [answer["layer"]]) == (row["method"], row["layers"])
        assert answer["image"] == {name: row[name] for name in ("width", "height", "region")}
        (entry,), (actual,) = answer["explanations"], row["explanations"]
        assert (entry["index"], entry["label"], entry["peak"]) == (actual["index"], actual["label"], actual["peak"])
        assert np.abs(np.array(entry["heatmap"]) - np.array(actual["heatmap"])).max() <= TOLERANCE


def test_killed_node_and_actor_lose_nothing(
    cluster: Cluster, images: Path, squash_archive: Path, expected: dict[str, Result], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    lost, kept = cluster.list_all_nodes()[1:]
    run = start(images, squash_archive, output, "--address", cluster.address)
    # Both nodes are working.
    wait_for(lambda: workers(lost) and workers(kept) and parts(output), run)
    cluster.remove_node(lost, allow_graceful=False)
    seen = len(parts(output))
    assert seen < PARTS - 4
    wait_for(lambda: len(parts(output)) > seen + 1, run)
    (actor,) = workers(kept)
    actor.kill()
    assert len(parts(output)) < PARTS
    printed = finish(run, 1)
    assert f"{GOOD + 2} images, {GOOD} explained" in printed
    assert psutil.wait_procs([actor], timeout=0)[0]
    check(read(output), expected)


def test_table_with_bytes_is_explained_without_its_finished_rows(
    explained: dict[str, Row], images: Path, squash_archive: Path, expected: dict[str, Result], tmp_path: Path
) -> None:
    table, output = tmp_path / "table.parquet", tmp_path / "out"
    names = sorted(explained)
    contents = [(images / name).read_bytes() for name in names]
    half = {"name": names[:10], "image": contents[:10]}
    columns = ("--path-column", "name", "--image-column", "image", "--actors", "1")
    pq.write_table(pa.table(half), table)
    finish(start(table, squash_archive, output, *columns), 0)
    done = {part: part.stat().st_mtime_ns for part in parts(output)}
    assert len(done) == 5
    # The table has grown.
    pq.write_table(pa.table({"name": names, "image": contents}), table)
    printed = finish(start(table, squash_archive, output, *columns), 1)
    assert f"{len(names)} images, {len(names) - 10} of them to explain" in printed
    assert {part: part.stat().st_mtime_ns for part in done} == done
    check(read(output), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "gradcm"], "UnknownName: Unknown method 'gradcm'; did you mean 'gradcam'"),
        (["--gpu"], "Ray has no GPU"),
        (["--archive", str(COMMAND)], "is not a model archive"),
    ],
)
def test_invalid_arguments_are_reported(
    images: Path, squash_archive: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    assert message in finish(start(images, squash_archive, tmp_path / "out", *arguments), 2)
    assert not parts(tmp_path / "out")


def test_code_of_the_actors_is_shipped_with_the_tasks() -> None:
    """Unpickle the actor and the tasks in a process that cannot import this repository, as on a cluster's node."""
    cloudpickle.register_pickle_by_value(tools.bulk)
    try:
        pickled = cloudpickle.dumps((BulkActor, BulkJob, exclude_done))
    finally:
        cloudpickle.unregister_pickle_by_value(tools.bulk)
    program = f"""
import pickle, sys
sys.path[:] = [path for path in sys.path if path not in ({str(ROOT)!r}, {str(ROOT / "handler")!r}, "")]
actor, job, task = pickle.loads(sys.stdin.buffer.read())
assert not [name for name in sys.modules if name.split(".")[0] in ("tools", "gradcam")]
try:
    actor(None, job("", {{}}, None, "/nowhere", "run"))
except FileNotFoundError as error:
    print(error)
"""
    path = os.pathsep.join(path for path in sys.path if path not in {str(ROOT), str(ROOT / "handler"), ""})
    node = subprocess.run(
        [sys.executable, "-c", program],
        input=pickled,
        env={**os.environ, "PYTHONPATH": path},
        cwd="/",
        capture_output=True,
        check=False,
    )
    assert b"cannot see /nowhere: all nodes must share it" in node.stdout, node.stderr.decode()


def test_sigterm_interrupts_the_command(images: Path, squash_archive: Path, tmp_path: Path) -> None:
    process = start(images, squash_archive, tmp_path / "out", "--actors", "1")
    wait_for((tmp_path / "out").exists, process)
    process.terminate()
    assert "interrupted; run the command again to continue" in finish(process, 130)
