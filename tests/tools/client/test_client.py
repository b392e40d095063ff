"""The client against a real HTTP server that answers as the contract says."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tools.client import client as predict

CAT = {"index": 281, "label": "tabby", "probability": 0.6157}
CUP = {"index": 967, "label": "espresso", "probability": 0.0249}
DOG = {"index": 207, "label": "golden retriever", "probability": 0.0004}
UNDECODABLE = {"error": {"code": "undecodable_image", "message": "cannot decode; send a whole JPEG"}}


def explained(prediction: dict[str, Any], overlay: bytes, **changes: Any) -> dict[str, Any]:
    encoded = base64.b64encode(overlay).decode()
    return {
        **prediction,
        "evidence": True,
        "heatmap": [[0.0, 1.0]],
        "peak": [412, 130],
        "overlay": f"data:image/jpeg;base64,{encoded}",
        **changes,
    }


def answer(*explanations: dict[str, Any], predictions: tuple[dict[str, Any], ...] = (CAT, CUP)) -> dict[str, Any]:
    return {
        "predictions": list(predictions),
        "explanations": list(explanations),
        "method": "gradcam",
        "layer": "layer4.1.conv2",
        "image": {"width": 451, "height": 300, "region": [0, 0, 451, 300]},
    }


@dataclass
class Request:
    """What arrived: address, headers, and the form with its fields' bytes."""

    path: str
    accept: str
    form: dict[str, bytes]


Reply = tuple[int, Any]


@dataclass
class Server:
    """A server on a free port; `reply` maps a request to status and JSON, and tests replace it."""

    url: str
    requests: list[Request] = field(default_factory=list)
    reply: Callable[[Request], Reply] = lambda request: (200, answer(explained(CAT, b"overlay")))

    def forms(self) -> list[dict[str, bytes]]:
        return [request.form for request in self.requests]


def read_form(content_type: str, body: bytes) -> dict[str, bytes]:
    message = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    form = {}
    for part in message.walk():
        if not part.is_multipart():
            payload = part.get_payload(decode=True)
            assert isinstance(payload, bytes)
            form[str(part.get_param("name", header="Content-Disposition"))] = payload
    return form


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            form = read_form(self.headers["Content-Type"], body)
            request = Request(self.path, self.headers["Accept"], form)
            state.requests.append(request)
            status, content = state.reply(request)
            encoded = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, *args: object) -> None:
            """Keeps the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state = Server(f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        http.shutdown()
        thread.join()


@pytest.fixture
def closed_url() -> str:
    """An address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and a server that is not waited for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(predict, "RETRIES", predict.RETRIES.new(backoff_factor=0))
    return tmp_path


def write(path: str, content: bytes = b"picture") -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content)
    return Path(path)


def files_below(path: str) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in Path(path).rglob("*") if file.is_file()}


def table_cells(output: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if line[:1] == "│"]


def test_sends_picture_as_form_and_leaves_defaults_to_server(server: Server) -> None:
    write("cat.jpg", b"\xff\xd8\r\n--\x00bytes")
    assert predict.main(["cat.jpg", "--url", server.url]) == 0
    (request,) = server.requests
    assert request == Request(
        "/predictions/resnet18", "application/json", {"data": b"\xff\xd8\r\n--\x00bytes", "overlay": b"jpeg"}
    )


def test_sends_options_with_labels_in_any_script(server: Server) -> None:
    write("cat.jpg")
    arguments = ["--model", "my model/2", "--targets", "281,Ägyptische 猫", "--topk", "3", "--method", "layercam"]
    assert predict.main(["cat.jpg", "--url", f"{server.url}/behind/", *arguments]) == 0
    (request,) = server.requests
    assert request.path == "/behind/predictions/my%20model%2F2"
    assert request.form == {
        "data": b"picture",
        "overlay": b"jpeg",
        "targets": "281,Ägyptische 猫".encode(),
        "topk": b"3",
        "method": b"layercam",
    }


def test_prints_classes_and_findings(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.reply = lambda request: (
        200,
        answer(explained(CAT, b"a"), explained(DOG, b"b", evidence=False, peak=None)),
    )
    write("cat.jpg")
    assert predict.main(["cat.jpg", "--url", server.url]) == 0
    output = capsys.readouterr().out
    assert table_cells(output) == [
        ["cat.jpg", "281 tabby", "61.57% ██████", "peak at x=412, y=130"],
        ["", "967 espresso", "2.49%", ""],
        ["", "207 golden retriever", "0.04%", "nothing speaks for this class"],
    ]
    assert "Explained by gradcam at layer4.1.conv2" in output
    assert output.endswith("Overlays written to build/overlays: 2\n")


def test_writes_an_overlay_for_each_explanation(server: Server) -> None:
    server.reply = lambda request: (200, answer(explained(CAT, b"\xffcat"), explained(DOG, b"\xffdog")))
    write("cat.jpg")
    assert predict.main(["cat.jpg", "--url", server.url, "--output", "out"]) == 0
    assert files_below("out") == {"cat.281-tabby.jpg": b"\xffcat", "cat.207-golden-retriever.jpg": b"\xffdog"}


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("../../etc/passwd", "etc-passwd"),
        ("/", ""),
        ("a\0b\nc.jpg", "a-b-c-jpg"),
        ("Ägyptische 猫", "ägyptische-猫"),
        ("猫" * 300, "猫" * 40),
    ],
)
def test_label_stays_inside_file_name(server: Server, folder: Path, label: str, name: str) -> None:
    server.reply = lambda request: (200, answer(explained({**CAT, "label": label}, b"overlay")))
    write("in/cat.jpg")
    assert predict.main(["in/cat.jpg", "--url", server.url, "--output", "deep/out"]) == 0
    assert files_below(str(folder)) == {"in/cat.jpg": b"picture", f"deep/out/cat.281-{name}.jpg": b"overlay"}


def test_walks_folders_and_keeps_their_structure(server: Server) -> None:
    server.reply = lambda request: (200, answer(explained(CAT, b"overlay of " + request.form["data"])))
    for path in (
        "in/b.PNG",
        "in/a/x.jpeg",
        "in/c/x.webp",
        "in/c/deep/x.tiff",
        "in/notes.txt",
        "in/d/e/x.bmp",
        "in/folder.jpg/y.gif",
    ):
        write(path, path.encode())
    assert predict.main(["in", "--url", server.url, "--output", "out"]) == 0
    assert files_below("out") == {
        "b.281-tabby.jpg": b"overlay of in/b.PNG",
        "a/x.281-tabby.jpg": b"overlay of in/a/x.jpeg",
        "c/x.281-tabby.jpg": b"overlay of in/c/x.webp",
        "c/deep/x.281-tabby.jpg": b"overlay of in/c/deep/x.tiff",
        "d/e/x.281-tabby.jpg": b"overlay of in/d/e/x.bmp",
        "folder.jpg/y.281-tabby.jpg": b"overlay of in/folder.jpg/y.gif",
    }


def test_pictures_come_in_order_and_once(folder: Path) -> None:
    for name in "fbhadgecji":
        write(f"in/{name}.png")
    given = [write("odd.name"), Path("in"), folder / "in/a.png", Path("odd.name")]
    found = predict.find_pictures(given, Path("out"))
    assert [picture.path for picture in found] == [
        Path("odd.name"),
        *(Path(f"in/{name}.png") for name in "abcdefghij"),
    ]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["one/cat.jpg"], ["cat"]),
        (["one/cat.jpg", "two/cat.jpg"], ["one/cat", "two/cat"]),
        (["cat.jpg", "cat.png", "dog.png"], ["cat.jpg", "cat.png", "dog.png"]),
    ],
)
def test_same_named_pictures_get_different_names(paths: list[str], names: list[str]) -> None:
    found = predict.find_pictures([write(path) for path in paths], Path("out"))
    assert [picture.name for picture in found] == names


def test_folder_is_searched_without_earlier_overlays(server: Server) -> None:
    write("in/cat.jpg")
    for _ in range(2):
        assert predict.main([".", "--url", server.url]) == 0
    assert len(server.requests) == 2
    assert files_below("build/overlays") == {"cat.281-tabby.jpg": b"overlay"}


def test_output_folder_itself_can_be_searched() -> None:
    write("out/cat.jpg")
    assert [picture.name for picture in predict.find_pictures([Path("out")], Path("out"))] == ["cat"]


def test_requests_overlap_and_rows_keep_the_order(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    last_arrived = threading.Event()

    def reply(request: Request) -> Reply:
        if request.form["data"] == b"first":
            assert last_arrived.wait(timeout=10)
        else:
            last_arrived.set()
        return 200, answer(explained(CAT, b"overlay"))

    server.reply = reply
    write("in/1.jpg", b"first")
    write("in/2.jpg", b"second")
    assert predict.main(["in", "--url", server.url]) == 0
    output = capsys.readouterr().out
    assert 0 < output.index("in/1.jpg") < output.index("in/2.jpg")


def test_failing_pictures_are_rows_and_others_go_on(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    replies: dict[bytes, Reply] = {
        b"bad": (400, UNDECODABLE),
        b"worker died": (500, {"code": 500, "type": "InternalServerException", "message": "Worker died."}),
        b"proxy": (502, b"<html>"),
        b"stock handler": (200, {"tabby": 0.9}),
        b"no overlay": (200, answer({**CAT, "evidence": False, "peak": None, "overlay": None})),
        b"not an object": (200, [1]),
        b"not base64": (200, answer({**explained(CAT, b""), "overlay": "data:image/jpeg;base64,?"})),
        b"good": (200, answer(explained(CAT, b"overlay"))),
    }
    server.reply = lambda request: replies[request.form["data"]]
    for number, content in enumerate(replies):
        write(f"in/{number}.jpg", content)
    assert predict.main(["in", "--url", server.url, "--output", "out"]) == 1
    output, errors = capsys.readouterr()
    assert errors == ""
    rows = {picture: seen for picture, seen, *_ in table_cells(output) if picture}
    assert rows["in/0.jpg"] == "undecodable_image: cannot decode; send a whole JPEG"
    assert rows["in/1.jpg"] == "InternalServerException: Worker died."
    assert rows["in/2.jpg"] == "HTTP 502 Bad Gateway"
    assert rows["in/3.jpg"] == 'the answer is not that of a Grad-CAM model: {"tabby": 0.9}'
    assert rows["in/4.jpg"].startswith("the answer is not that of a Grad-CAM model: {")
    assert rows["in/5.jpg"] == "the answer is not that of a Grad-CAM model: [1]"
    assert rows["in/6.jpg"].startswith("the answer is not that of a Grad-CAM model: {")
    assert rows["in/7.jpg"] == "281 tabby"
    assert files_below("out") == {"7.281-tabby.jpg": b"overlay"}


def test_unreadable_file_fails_alone(server: Server) -> None:
    pictures = [predict.Picture(Path("gone.jpg"), "gone"), predict.Picture(write("cat.jpg"), "cat")]
    gone, cat = predict.explain_all(predict.Service(server.url), pictures, predict.Options(), Path("out"))
    assert str(gone.answer) == "cannot be read: No such file or directory"
    assert cat.overlays == (Path("out/cat.281-tabby.jpg"),)


def test_overlay_that_cannot_be_written_fails_alone(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    write("in/cat.jpg")
    write("in/sub/cat.jpg")
    write("out/sub", b"a file where a folder should be")
    assert predict.main(["in", "--url", server.url, "--output", "out"]) == 1
    output = capsys.readouterr().out
    assert "overlay not written to out/sub/cat.281-tabby.jpg: File exists" in output
    assert Path("out/cat.281-tabby.jpg").read_bytes() == b"overlay"


def test_explain_returns_the_answer_with_overlays(server: Server) -> None:
    server.reply = lambda request: (200, answer(explained(CAT, b"overlay", peak=[3, 4])))
    with predict.open_session(server.url) as session:
        given = predict.explain(session, predict.Service(server.url), write("cat.jpg"), predict.Options())
    assert given == predict.Answer(
        predictions=(predict.Prediction(281, "tabby", 0.6157), predict.Prediction(967, "espresso", 0.0249)),
        explanations=(predict.Explanation(281, "tabby", 0.6157, peak=(3, 4), overlay=b"overlay"),),
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


def test_overlays_are_not_kept_in_memory(server: Server) -> None:
    pictures = [predict.Picture(write("cat.jpg"), "cat")]
    (result,) = predict.explain_all(predict.Service(server.url), pictures, predict.Options(), Path("out"))
    assert isinstance(result.answer, predict.Answer)
    assert [entry.overlay for entry in result.answer.explanations] == [b""]


@pytest.mark.parametrize(
    ("status", "message"), [(503, "Queue full."), (500, "Worker died."), (507, "Worker died.")], ids=str
)
def test_what_passes_is_asked_again(server: Server, status: int, message: str) -> None:
    def reply(request: Request) -> Reply:
        failed = status, {"code": status, "type": "SomeException", "message": message}
        return failed if len(server.requests) < 4 else (200, answer(explained(CAT, b"overlay")))

    server.reply = reply
    write("cat.jpg")
    assert predict.main(["cat.jpg", "--url", server.url]) == 0
    assert server.forms() == [{"data": b"picture", "overlay": b"jpeg"}] * 4


def test_server_that_stays_overloaded_is_reported(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.reply = lambda request: (503, {"code": 503, "type": "ServiceUnavailableException", "message": "Full."})
    write("cat.jpg")
    assert predict.main(["cat.jpg", "--url", server.url]) == 1
    assert len(server.requests) == 1 + 6
    assert "│ ServiceUnavailableException: Full. │" in capsys.readouterr().out


def test_a_connection_that_breaks_is_made_once_more(server: Server) -> None:
    def reply(request: Request) -> Reply:
        if len(server.requests) == 1:
            raise ConnectionAbortedError
        return 200, answer(explained(CAT, b"overlay"))

    server.reply = reply
    write("cat.jpg")
    assert predict.main(["cat.jpg", "--url", server.url]) == 0
    assert len(server.requests) == 2


def test_refused_picture_is_not_sent_again(server: Server) -> None:
    server.reply = lambda request: (400, UNDECODABLE)
    write("cat.jpg")
    assert predict.main(["cat.jpg", "--url", server.url]) == 1
    assert len(server.requests) == 1


def test_unreachable_server_is_one_message(closed_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(20):
        write(f"in/{number}.jpg")
    assert predict.main(["in", "--url", closed_url]) == 1
    assert capsys.readouterr() == (
        "",
        f"No server answers at {closed_url}. Start one with `make serve`, or name yours with --url.\n",
    )


def test_server_that_does_not_take_connections_is_one_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "CONNECT_SECONDS", 0.1)
    write("cat.jpg")
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        assert predict.main(["cat.jpg", "--url", f"http://127.0.0.1:{full.getsockname()[1]}"]) == 1
    assert capsys.readouterr().err.startswith("No server answers at http://127.0.0.1:")


def test_proxy_does_not_stand_before_this_machine(
    server: Server, closed_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", closed_url)
    write("cat.jpg")
    assert predict.main(["cat.jpg", "--url", server.url]) == 0


def test_unknown_model_is_one_message(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    message = "Model not found: resnet50"
    server.reply = lambda request: (404, {"code": 404, "type": "ModelNotFoundException", "message": message})
    for number in range(200):
        write(f"in/{number}.jpg")
    assert predict.main(["in", "--url", server.url, "--model", "resnet50"]) == 1
    assert capsys.readouterr() == (
        "",
        f"{server.url} has no model 'resnet50' (ModelNotFoundException: {message}). Name another with --model.\n",
    )
    assert len(server.requests) < 200


def test_connection_that_breaks_off_fails_alone(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    def reply(request: Request) -> Reply:
        if request.form["data"] == b"huge":
            raise ConnectionAbortedError
        return 200, answer(explained(CAT, b"overlay"))

    server.reply = reply
    write("in/1.jpg", b"huge")
    write("in/2.jpg")
    assert predict.main(["in", "--url", server.url]) == 1
    output = capsys.readouterr().out
    assert "│ in/1.jpg │ no answer from the server: " in output
    assert "│ in/2.jpg │ 281 tabby " in output
    assert len(server.requests) == 3


def test_what_was_answered_before_the_server_went_is_shown(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "IN_FLIGHT", 1)
    server.reply = lambda request: (
        (200, answer(explained(CAT, b"overlay"))) if request.form["data"] == b"1" else (404, {})
    )
    for number in (1, 2, 3):
        write(f"in/{number}.jpg", str(number).encode())
    assert predict.main(["in", "--url", server.url]) == 1
    output, errors = capsys.readouterr()
    assert "in/1.jpg" in output
    assert "in/2.jpg" not in output
    assert errors == f"{server.url} has no model 'resnet18' (HTTP 404 Not Found). Name another with --model.\n"


def test_foreign_text_neither_steers_the_terminal_nor_breaks_the_table(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    label = "\x1b[2J[bold]tab\nby"
    server.reply = lambda request: (200, answer(explained(CAT, b"overlay"), predictions=({**CAT, "label": label},)))
    name = os.fsdecode(b"caf\xe9.jpg")
    write(name)
    assert predict.main([name, "--url", server.url]) == 0
    output = capsys.readouterr().out
    assert "│ caf\N{REPLACEMENT CHARACTER}.jpg │ 281 \N{REPLACEMENT CHARACTER}[2J[bold]tab by │" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: IMAGE|FOLDER"),
        (["gone.jpg"], "no such file or folder: gone.jpg"),
        (["cat.jpg", "empty"], "no picture in folder: empty (looked for *.bmp, *.gif, *.jpeg, *.jpg, "),
        (["cat.jpg", "--targets", "281,,285"], "'281,,285' names an empty class"),
        (["cat.jpg", "--targets", ""], "'' names an empty class"),
        (["cat.jpg", "--topk", "0"], "'0' is not a number of classes"),
        (["cat.jpg", "--topk", "five"], "'five' is not a number of classes"),
        (["cat.jpg", "--url", "127.0.0.1:8080"], "'127.0.0.1:8080' is no address; write http://HOST:PORT"),
        (["cat.jpg", "--url", "ftp://127.0.0.1"], "'ftp://127.0.0.1' is no address"),
        (["cat.jpg", "--url", "http://"], "'http://' is no address"),
        (["cat.jpg", "--output", "cat.jpg"], "File exists: 'cat.jpg'"),
    ],
)
def test_wrong_usage_sends_nothing(
    server: Server, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    write("cat.jpg")
    write("empty/notes.txt")
    with pytest.raises(SystemExit) as exit_info:
        predict.main(["--url", server.url, *arguments])
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err
    assert server.requests == []


@pytest.mark.parametrize(("pictures", "bar"), [(1, False), (2, True)])
def test_bar_is_drawn_on_the_terminal_for_several_pictures(server: Server, pictures: int, bar: bool) -> None:
    for number in range(pictures):
        write(f"in/{number}.jpg")
    terminal, child = os.openpty()
    command = [sys.executable, predict.__file__, "in", "--url", server.url]
    with os.fdopen(terminal, "rb", buffering=0) as screen:
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=child, check=True, timeout=60)
        # Reading from a terminal nothing was written to is an error.
        os.write(child, b"end")
        drawn = screen.read(65536)
        os.close(child)
    assert (b"Explaining" in drawn) is bar
    assert b"Explaining" not in run.stdout
    assert "│ in/0.jpg │".encode() in run.stdout


def test_interrupt_does_not_wait_for_a_stuck_server(server: Server) -> None:
    arrived, over = threading.Event(), threading.Event()

    def reply(request: Request) -> Reply:
        arrived.set()
        over.wait(timeout=60)
        return 500, {}

    server.reply = reply
    write("cat.jpg")
    command = [sys.executable, predict.__file__, "cat.jpg", "--url", server.url]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as client:
        assert arrived.wait(timeout=60)
        client.send_signal(signal.SIGINT)
        _, errors = client.communicate(timeout=30)
    over.set()
    assert (client.returncode, errors) == (130, b"")


def test_runs_by_its_name_and_without_the_network_libraries() -> None:
    by_name = subprocess.run([predict.__file__, "--help"], capture_output=True, text=True, check=True, timeout=60)
    assert by_name.stdout.startswith("usage: predict.py ")
    code = "import sys, predict; sys.exit(' '.join({'torch', 'numpy', 'gradcam', 'ts'} & set(sys.modules)) or None)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(predict.__file__).parent, check=True, timeout=60)


def test_a_report_of_what_was_explained_and_what_was_not(server: Server) -> None:
    Path("in").mkdir()
    Image.new("RGB", (4, 3)).save("in/good.png")
    write("in/strange.png")
    write("in/wrong.png", b"wrong")
    server.reply = lambda request: (
        (400, UNDECODABLE) if request.form["data"] == b"wrong" else (200, answer(explained(CAT, b"overlay")))
    )

    assert predict.main(["in", "--url", server.url, "--output", "out", "--report", "report.html"]) == 1

    page = Path("report.html").read_text(encoding="utf-8")
    (entry,) = re.findall(r'class="entry">(.*)</script>', page)
    assert json.loads(entry)["name"] == "in/good.png"
    assert json.loads(entry)["explanations"] == [{**CAT, "evidence": True, "heatmap": [[0.0, 1.0]], "peak": [412, 130]}]
    errors = [json.loads(found) for found in re.findall(r'class="error">(.*)</script>', page)]
    assert [error["name"] for error in errors] == ["in/strange.png", "in/wrong.png"]
    assert "no thumbnail" in errors[0]["message"]
    assert errors[1]["message"] == "undecodable_image: cannot decode; send a whole JPEG"


def test_a_report_that_cannot_be_written(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    write("a.jpg")
    with pytest.raises(SystemExit):
        predict.main(["a.jpg", "--url", server.url, "--report", "no/such/report.html"])
    assert "no/such/report.html" in capsys.readouterr().err
    assert server.requests == []
