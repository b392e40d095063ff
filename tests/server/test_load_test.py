"""`make load-test`: a real server passes; one that is slow, wrong, broken or not there does not."""

from __future__ import annotations

import json
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

from tools.load import load_test
from tools.load.plan import Outcome, Row
from tools.load.protocols import DOORS, OPTIONS
from tools.server.port_check import free_port

ANSWER_SECONDS = 1.0

# ----------------------------------------------------------------------------- a server that is not ours


def document(classes: list[int]) -> dict[str, Any]:
    """The right answer, whatever the picture."""
    predictions = [{"index": index, "label": f"class {index}", "probability": 0.5 / (1 + index)} for index in range(3)]
    maps = [{"evidence": True, "heatmap": [[1.0, 0.1 * index], [0.2, 0.0]], "peak": [2, 1]} for index in range(3)]
    return {
        "predictions": predictions,
        "explanations": [{**predictions[index], **maps[index]} for index in classes],
        "image": {"width": 12, "height": 9, "region": [0, 0, 12, 9]},
    }


class Reply(BaseHTTPRequestHandler):
    """One request of the raw door."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        targets = self.headers["Gradcam-Targets"]
        classes = [int(index) for index in targets.split(",")] if targets else [0]
        self.server.behave(self, document(classes))  # type: ignore[attr-defined]

    def send(self, status: int, said: Any, missing: int = 0) -> None:
        """Sends JSON; some bytes fewer than announced, where they are to be missing."""
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + missing))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = missing > 0

    def log_message(self, *_: object) -> None:
        """Keeps the terminal clean."""


Behaviour = Callable[[Reply, dict[str, Any]], None]


@contextmanager
def stub(behave: Behaviour, learning: int = 2) -> Iterator[str]:
    """A server that answers as it should for so many requests, and then behaves as it is told."""
    numbers = count()

    def first_right(reply: Reply, right: dict[str, Any]) -> None:
        if next(numbers) < learning:
            reply.send(200, right)
        else:
            behave(reply, right)

    with ThreadingHTTPServer(("127.0.0.1", 0), Reply) as server:
        server.daemon_threads, server.block_on_close = True, False
        server.behave = first_right  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[Outcome]:
    """What the runs of a test came to."""
    seen: list[Outcome] = []
    shown = load_test.show

    def show(outcome: Outcome) -> None:
        seen.append(outcome)
        shown(outcome)

    monkeypatch.setattr(load_test, "show", show)
    return seen


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One picture."""
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (12, 9)).save(tmp_path / "pictures" / "one.png")
    return tmp_path / "pictures"


def load(url: str, folder: Path, *more: str) -> int:
    report = folder.parent / "report" / "of.html"
    common = ["--pictures", str(folder), "--users", "4", "--duration", "1", "--report", str(report)]
    return load_test.main(["--url", url, "--doors", "raw", "--options", "default,targets", *common, *more])


# ----------------------------------------------------------------------------- tests


def test_local_server(
    outcomes: list[Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(load_test, "OUTPUT", tmp_path)

    status = load_test.main(["--model", "shufflenet_v2_x0_5", "--users", "3", "--duration", "4", "--max-p95", "30000"])

    (outcome,) = outcomes
    assert outcome.problems == ()
    assert outcome.failures == ()
    assert status == 0
    assert [row.name for row in outcome.doors] == list(DOORS)
    assert [row.name for row in outcome.options] == list(OPTIONS)
    for rows in (outcome.doors, outcome.options):
        assert all(row.requests for row in rows)
        assert sum(row.requests for row in rows) == outcome.total.requests
    assert 0 < outcome.total.median <= outcome.total.p95 <= outcome.total.p99
    assert 3 < outcome.total.requests / outcome.total.per_second < 30  # seconds
    assert '"num_requests": ' + str(outcome.total.requests) in (tmp_path / "report.html").read_text()
    assert str(outcome.total.requests) in capsys.readouterr().out
    assert (tmp_path / "logs" / "model_log.log").exists()
    assert not [child for child in psutil.Process().children() if "load_users.py" in " ".join(child.cmdline())]


def test_everything_that_can_go_wrong_is_an_error(
    outcomes: list[Outcome], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = count()

    def behave(reply: Reply, right: dict[str, Any]) -> None:
        match next(kinds) % 7:
            case 0:
                right["predictions"][1]["label"] = "class 2"
                reply.send(200, right)
            case 1:
                for entry in right["explanations"]:
                    entry["heatmap"].reverse()
                reply.send(200, right)
            case 2:
                reply.send(200, ["nothing"])
            case 3:
                reply.send(503, {"code": 503, "type": "ServiceUnavailable", "message": "no worker"})
            case 4:
                reply.send(422, {"error": {"code": "unknown_class", "message": "which?"}})
            case 5:
                reply.send(200, right, missing=7)
            case 6:
                time.sleep(2 * ANSWER_SECONDS)

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
        "wrong answer: another map",
        "wrong answer: not the answer of a Grad-CAM model",
        "503 ServiceUnavailable: no worker",
        '422 {"error": {"code": "unknown_class"',
        "timed out",
    ):
        assert expected in messages
    assert len({problem.message for problem in outcome.problems}) == 7, messages
    said = capsys.readouterr()
    assert f"error rate 100.00% ({outcome.total.errors} of {outcome.total.errors}) is over --max-error-rate" in said.err
    assert "503 ServiceUnavailable: no worker" in said.out


def test_slow_server(outcomes: list[Outcome], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def slowly(reply: Reply, right: dict[str, Any]) -> None:
        time.sleep(0.25)
        reply.send(200, right)

    with stub(slowly) as url:
        status = load(url, folder, "--max-p95", "200")

    (outcome,) = outcomes
    assert status == 1
    assert outcome.problems == ()
    assert outcome.total.median >= 250
    assert capsys.readouterr().err == f"load_test: p95 {outcome.total.p95:.0f} ms is over --max-p95 200 ms\n"


def test_wrong_before_any_load(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "two.png").write_bytes(b"")
    Image.new("RGB", (13, 9)).save(folder / "two.png")

    with stub(lambda reply, right: reply.send(200, right)) as url:
        assert load(url, folder) == 1

    assert "two.png: this is not the answer to the picture" in capsys.readouterr().err


def test_refused_before_any_load(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with stub(lambda reply, _: reply.send(404, {"type": "ModelNotFound", "message": "no mine"}), learning=0) as url:
        assert load(url, folder, "--model", "mine") == 1

    assert capsys.readouterr().err.endswith("one.png: ModelNotFound: no mine\n")


def test_no_server(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"

    assert load(url, folder) == 1

    assert capsys.readouterr().err.startswith(f"load_test: no server answers at {url}")


def test_no_locust(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    assert load("http://127.0.0.1:1", folder) == 1

    assert "Locust is not installed; `make load-test`" in capsys.readouterr().err


def test_headers_are_sent(folder: Path, outcomes: list[Outcome]) -> None:
    def guarded(reply: Reply, right: dict[str, Any]) -> None:
        reply.send(200 if reply.headers["Authorization"] == "Bearer of a key" else 401, right)

    with stub(guarded, learning=0) as url:
        assert load(url, folder, "--header", "Authorization: Bearer of a key") == 0
        assert load(url, folder) == 1

    assert len(outcomes) == 1  # without the key, nothing is learnt


# ----------------------------------------------------------------------------- verdict and arguments


def row(requests: int, errors: int, p95: float) -> Row:
    return Row("all", requests, errors, 1.0, 1.0, p95, p95, p95)


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
def test_verdict(total: Row, failures: tuple[str, ...], reasons: list[str]) -> None:
    assert load_test.exceeded(Outcome(total, (), (), (), failures), max_p95=500, max_error_rate=0.02) == reasons


def test_mix() -> None:
    assert load_test.mix("raw=3, v2", DOORS) == {"raw": 3, "v2": 1}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--doors", "row"],
        ["--doors", ""],
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
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        load_test.main(arguments)
    assert stop.value.code == 2
    assert f"argument {arguments[0]}: " in capsys.readouterr().err
