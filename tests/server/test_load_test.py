"""`make load-test` accepts a real server, and rejects one that is slow, wrong, broken, or missing."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
from PIL import Image
from rich.console import Console

from tools.load import load_summary, load_test
from tools.load.load_arguments import weights
from tools.load.load_summary import exceeded_limits
from tools.load.option_sets import OPTION_SETS
from tools.load.plan import LoadResult, RequestStatistics
from tools.load.protocols import PROTOCOLS
from tools.server.port_check import free_port

ANSWER_SECONDS = 1.0

# ----------------------------------------------------------------------------- a stub server


def expected_answer(classes: list[int]) -> dict[str, Any]:
    """Return the correct answer, the same for every image."""
    predictions = [{"index": index, "label": f"class {index}", "probability": 0.5 / (1 + index)} for index in range(3)]
    maps = [{"evidence": True, "heatmap": [[1.0, 0.1 * index], [0.2, 0.0]], "peak": [2, 1]} for index in range(3)]
    return {
        "predictions": predictions,
        "explanations": [{**predictions[index], **maps[index]} for index in classes],
        "image": {"width": 12, "height": 9, "region": [0, 0, 12, 9]},
    }


class Reply(BaseHTTPRequestHandler):
    """Handles one request with a raw body."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        targets = self.headers["Gradcam-Targets"]
        classes = [int(index) for index in targets.split(",")] if targets else [0]
        self.server.behave(self, expected_answer(classes))  # type: ignore[attr-defined]

    def send(self, status: int, payload: Any, missing: int = 0) -> None:
        """Send JSON, with `missing` bytes fewer than announced."""
        body = json.dumps(payload).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + missing))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = missing > 0

    def log_message(self, *_: object) -> None:
        """Write no log."""


Behavior = Callable[[Reply, dict[str, Any]], None]


@contextmanager
def stub(behave: Behavior, learning: int = 2) -> Iterator[str]:
    """Run a server that answers the first `learning` requests correctly, and later ones with `behave`."""
    numbers = count()

    def correct_at_first(reply: Reply, correct: dict[str, Any]) -> None:
        if next(numbers) < learning:
            reply.send(200, correct)
        else:
            behave(reply, correct)

    with ThreadingHTTPServer(("127.0.0.1", 0), Reply) as server:
        server.daemon_threads, server.block_on_close = True, False
        server.behave = correct_at_first  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[LoadResult]:
    """The outcomes of a test's runs."""
    outcomes: list[LoadResult] = []
    original = load_summary.show

    def show(result: LoadResult, console: Console) -> None:
        outcomes.append(result)
        original(result, console)

    monkeypatch.setattr(load_test, "show", show)
    return outcomes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one image."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (12, 9)).save(tmp_path / "images" / "one.png")
    return tmp_path / "images"


def load(url: str, folder: Path, *more: str) -> int:
    report = folder.parent / "report" / "of.html"
    common = ["--images", str(folder), "--users", "4", "--duration", "1", "--report", str(report)]
    return load_test.main(["--url", url, "--protocols", "raw", "--options", "default,targets", *common, *more])


# ----------------------------------------------------------------------------- tests


def test_load_test_of_a_local_server_passes(
    outcomes: list[LoadResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(load_test, "OUTPUT", tmp_path)

    status = load_test.main(["--model", "shufflenet_v2_x0_5", "--users", "3", "--duration", "4", "--max-p95", "30000"])

    (outcome,) = outcomes
    assert outcome.problems == ()
    assert outcome.failures == ()
    assert status == 0
    assert [row.name for row in outcome.protocols] == list(PROTOCOLS)
    assert [row.name for row in outcome.options] == list(OPTION_SETS)
    for rows in (outcome.protocols, outcome.options):
        assert all(row.requests for row in rows)
        assert sum(row.requests for row in rows) == outcome.total.requests
    assert 0 < outcome.total.median <= outcome.total.p95 <= outcome.total.p99
    assert 3 < outcome.total.requests / outcome.total.per_second < 30  # seconds
    assert '"num_requests": ' + str(outcome.total.requests) in (tmp_path / "report.html").read_text()
    assert str(outcome.total.requests) in capsys.readouterr().out
    assert (tmp_path / "logs" / "model_log.log").exists()
    assert not [child for child in psutil.Process().children() if "tools.load.users" in " ".join(child.cmdline())]


def test_every_kind_of_failure_is_counted(
    outcomes: list[LoadResult], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = count()

    def behave(reply: Reply, correct: dict[str, Any]) -> None:
        match next(kinds) % 7:
            case 0:
                correct["predictions"][1]["label"] = "class 2"
                reply.send(200, correct)
            case 1:
                for entry in correct["explanations"]:
                    entry["heatmap"].reverse()
                reply.send(200, correct)
            case 2:
                reply.send(200, ["nothing"])
            case 3:
                reply.send(503, {"code": 503, "type": "ServiceUnavailable", "message": "no worker"})
            case 4:
                reply.send(422, {"error": {"code": "unknown_class", "message": "which?"}})
            case 5:
                reply.send(200, correct, missing=7)
            case 6:
                reply.connection.recv(1)  # until the client closes the connection

    monkeypatch.setattr(load_test, "ANSWER_SECONDS", ANSWER_SECONDS)
    with stub(behave) as url:
        status = load(url, folder, "--max-error-rate", "0.99")

    (outcome,) = outcomes
    assert status == 1
    assert outcome.failures == ()
    assert outcome.total.errors == outcome.total.requests == sum(problem.count for problem in outcome.problems) > 7
    messages = "\n".join(problem.message for problem in outcome.problems)
    for expected in (
        "wrong answer: another label",
        "wrong answer: another heatmap",
        "wrong answer: not the answer of a Grad-CAM model",
        "503 ServiceUnavailable: no worker",
        '422 {"error": {"code": "unknown_class"',
        "timed out",
    ):
        assert expected in messages
    assert len({problem.message for problem in outcome.problems}) == 7, messages
    captured = capsys.readouterr()
    assert (
        f"error rate 100.00% ({outcome.total.errors} of {outcome.total.errors}) is over --max-error-rate"
        in captured.err
    )
    assert "503 ServiceUnavailable: no worker" in captured.out


def test_slow_server_exceeds_the_latency_limit(
    outcomes: list[LoadResult], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def delayed(reply: Reply, correct: dict[str, Any]) -> None:
        time.sleep(0.25)
        reply.send(200, correct)

    with stub(delayed) as url:
        status = load(url, folder, "--max-p95", "200")

    (outcome,) = outcomes
    assert status == 1
    assert outcome.problems == ()
    assert outcome.total.median >= 250
    assert capsys.readouterr().err == f"load_test: p95 {outcome.total.p95:.0f} ms is over --max-p95 200 ms\n"


def test_wrong_answer_before_the_load_is_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "two.png").write_bytes(b"")
    Image.new("RGB", (13, 9)).save(folder / "two.png")

    with stub(lambda reply, correct: reply.send(200, correct)) as url:
        assert load(url, folder) == 1

    assert "two.png: Not the answer to this image" in capsys.readouterr().err


def test_error_before_the_load_is_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with stub(lambda reply, _: reply.send(404, {"type": "ModelNotFound", "message": "no mine"}), learning=0) as url:
        assert load(url, folder, "--model", "mine") == 1

    assert capsys.readouterr().err.endswith("one.png: ModelNotFound: no mine\n")


def test_unreachable_server_is_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"

    assert load(url, folder) == 1

    assert capsys.readouterr().err.startswith(f"load_test: No server answers at {url}")


def test_missing_locust_is_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    assert load("http://127.0.0.1:1", folder) == 1

    assert "Locust is not installed; run `make load-test`" in capsys.readouterr().err


def test_headers_of_the_command_line_are_sent(folder: Path, outcomes: list[LoadResult]) -> None:
    def guarded(reply: Reply, correct: dict[str, Any]) -> None:
        reply.send(200 if reply.headers["Authorization"] == "Bearer of a key" else 401, correct)

    with stub(guarded, learning=0) as url:
        assert load(url, folder, "--header", "Authorization: Bearer of a key") == 0
        assert load(url, folder) == 1

    assert len(outcomes) == 1  # without the key, the run ends before the load


# ----------------------------------------------------------------------------- verdict and arguments


def row(requests: int, errors: int, p95: float) -> RequestStatistics:
    return RequestStatistics("all", requests, errors, 1.0, 1.0, p95, p95, p95)


@pytest.mark.parametrize(
    ("total", "failures", "reasons"),
    [
        (row(100, 2, 500.0), (), []),
        (row(100, 3, 500.0), (), ["error rate 3.00% (3 of 100) is over --max-error-rate 2.00%"]),
        (row(100, 0, 510.0), (), ["p95 510 ms is over --max-p95 500 ms"]),
        (row(0, 0, 0.0), (), ["no request was answered"]),
        (row(100, 0, 1.0), ("3 requests lost",), ["3 requests lost"]),
    ],
)
def test_verdict_lists_exceeded_limits(total: RequestStatistics, failures: tuple[str, ...], reasons: list[str]) -> None:
    assert exceeded_limits(LoadResult(total, (), (), (), failures), max_p95=500, max_error_rate=0.02) == reasons


def test_weights_are_parsed() -> None:
    assert weights("raw=3, v2", PROTOCOLS) == {"raw": 3, "v2": 1}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--doors", "row"],
        ["--protocols", ""],
        ["--options", "none=0"],
        ["--options", "none=1000"],
        ["--options", "none=x"],
        ["--url", "localhost"],
        ["--users", "0"],
        ["--duration", "0"],
        ["--duration", "nan"],
        ["--max-p95", "-1"],
        ["--max-error-rate", "2"],
        ["--max-error-rate", "nan"],
        ["--header", "nothing"],
    ],
    ids=" ".join,
)
def test_invalid_arguments_are_rejected(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        load_test.main(arguments)
    assert stop.value.code == 2
    assert re.search(f"argument [-a-z/]*{arguments[0]}[-a-z/]*: ", capsys.readouterr().err)
