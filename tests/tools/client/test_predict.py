"""`scripts/predict.py` against a real HTTP server that answers as the contract says."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from gradcam.options import PARSERS
from tests.support.fake_server import CAT, CUP, DOG, UNDECODABLE, FakeServer, Reply, Request, answer, explained
from tools.client import client, predict
from tools.client.answers import Answer, Prediction
from tools.client.arguments import OPTIONS
from tools.client.client import Client
from tools.client.explained import explain_all
from tools.client.files import ImageFile
from tools.client.table import class_row
from tools.paths import ROOT

SCRIPT = ROOT / "scripts" / "predict.py"


def write(path: str, content: bytes = b"image") -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content)
    return Path(path)


def files_below(path: str) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in Path(path).rglob("*") if file.is_file()}


def table_cells(output: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if line[:1] == "│"]


def test_sends_the_image_as_a_form_and_leaves_defaults_to_the_server(server: FakeServer) -> None:
    write("cat.jpg", b"\xff\xd8\r\n--\x00bytes")
    assert predict.main(["cat.jpg", "--url", server.url]) == 0
    (request,) = server.requests
    assert request == Request(
        "/predictions/resnet18", "application/json", None, {"data": b"\xff\xd8\r\n--\x00bytes", "overlay": b"jpeg"}
    )


def test_sends_options_with_labels_in_any_script(server: FakeServer) -> None:
    write("cat.jpg")
    arguments = ["--model", "my model/2", "--targets", "281,Ägyptische 猫", "--topk", "3", "--method", "layercam"]
    assert predict.main(["cat.jpg", "--url", f"{server.url}/behind/", *arguments]) == 0
    (request,) = server.requests
    assert request.path == "/behind/predictions/my%20model%2F2"
    assert request.form == {
        "data": b"image",
        "overlay": b"jpeg",
        "targets": "281,Ägyptische 猫".encode(),
        "topk": b"3",
        "method": b"layercam",
    }


def test_prints_classes_and_findings(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
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
        ["", "207 golden retriever", "0.04%", "no evidence for this class; low probability"],
    ]
    assert "Explained by gradcam at layer4.1.conv2" in output
    assert output.endswith("Overlays written to build/overlays: 2\n")


def test_prints_strengths_and_what_an_empty_counterfactual_map_means(
    server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = explained(DOG, b"b", evidence=False, peak=None, strength=0.0)
    server.reply = lambda request: (
        200,
        {**answer(explained(CAT, b"a", strength=12.3456), empty), "method": "counterfactual"},
    )
    write("cat.jpg")
    assert predict.main(["cat.jpg", "--url", server.url]) == 0
    assert table_cells(capsys.readouterr().out) == [
        ["cat.jpg", "281 tabby", "61.57% ██████", "peak at x=412, y=130", "12.3"],
        ["", "967 espresso", "2.49%", "", ""],
        ["", "207 golden retriever", "0.04%", "nothing speaks against this class; low probability", "0"],
    ]


def test_prints_contrast_and_boxes(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    boxes = [{"box": [number, 2, 30, 40], "area": 9, "mean": 0.75} for number in range(5)]
    server.reply = lambda request: (200, answer(explained(CAT, b"a", boxes=boxes, versus=DOG), predictions=(CAT,)))
    write("cat.jpg")
    assert predict.main(["cat.jpg", "--url", server.url, "--versus", "207"]) == 0
    assert table_cells(capsys.readouterr().out) == [
        [
            "cat.jpg",
            "281 tabby",
            "61.57% ██████",
            "peak at x=412, y=130; rather than golden retriever; boxes: [0, 2, 30, 40] [1, 2, 30, 40] [2, 2, 30, 40]",
        ]
    ]


def test_improbable_classes_are_dim() -> None:
    styles = [
        [str(cell.style) for cell in class_row(Prediction(1, "cat", probability), None, "gradcam")]
        for probability in (0.05, 0.0499)
    ]
    assert styles == [["", "", "", ""], ["dim"] * 4]


def test_every_option_reaches_the_server(server: FakeServer) -> None:
    write("cat.jpg")
    values = {
        "explain": "2",
        "topk": "3",
        "method": "layercam",
        "layer": "layer3,layer4",
        "versus": "Egyptian cat",
        "boxes": "0.5",
        "overlay": "png",
        "style": "outline",
        "colormap": "bone",
        "alpha": "0.25",
    }
    arguments = [part for name, value in values.items() for part in (f"--{name}", value)]
    headers = ["--header", "Authorization: Bearer a:b", "--header", "X-Other:1"]
    command = ["cat.jpg", "--url", server.url, "--version", "2.0", "--smooth", "--caption", *arguments, *headers]
    assert predict.main(command) == 0
    (request,) = server.requests
    assert (request.path, request.authorization) == ("/predictions/resnet18/2.0", "Bearer a:b")
    expected = {**values, "smooth": "true", "caption": "true"}
    assert request.form == {"data": b"image", **{name: value.encode() for name, value in expected.items()}}


def test_the_command_line_has_every_option_of_requests() -> None:
    assert set(OPTIONS) == PARSERS.keys() - {"heatmap"} | {"versus", "boxes", "style", "caption", "threshold"}


def test_no_overlays(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.reply = lambda request: (200, answer({**CAT, "evidence": False, "peak": None}))
    write("cat.jpg")
    assert predict.main(["cat.jpg", "--url", server.url, "--overlay", "none"]) == 0
    assert files_below("build/overlays") == {}
    assert "Overlay" not in capsys.readouterr().out


def test_json_lines(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    model = {"name": "m", "version": "1.0", "weights": "0123456789ab"}
    server.reply = lambda request: (
        (400, UNDECODABLE)
        if request.form["data"] == b"bad"
        else (200, {**answer(explained(CAT, b"a", strength=2.5)), "model": model})
    )
    write("in/a.jpg")
    write("in/b.jpg", b"bad")
    assert predict.main(["in", "--url", server.url, "--output", "out", "--json"]) == 1
    output, errors = capsys.readouterr()
    first, second = map(json.loads, output.splitlines())
    assert first == {
        "path": "in/a.jpg",
        "overlays": ["out/a.281-tabby.jpg"],
        "predictions": [CAT, CUP],
        "explanations": [{**CAT, "evidence": True, "heatmap": [[0.0, 1.0]], "peak": [412, 130], "strength": 2.5}],
        "method": "gradcam",
        "layer": "layer4.1.conv2",
        "image": {"width": 451, "height": 300, "region": [0, 0, 451, 300]},
        "model": model,
    }
    assert second == {"path": "in/b.jpg", "error": UNDECODABLE["error"]}
    assert errors == "Overlay written to out/a.281-tabby.jpg\n"


def test_csv_rows(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    model = {"name": "m", "version": "1.0", "weights": "0123456789ab"}
    server.reply = lambda request: (
        (502, b"<html>")
        if request.form["data"] == b"bad"
        else (
            200,
            {
                **answer(explained(CAT, b"a", strength=2.5), explained(DOG, b"b", peak=None, evidence=False)),
                "model": model,
            },
        )
    )
    write("in/a.jpg")
    write("in/b, c.jpg", b"bad")
    assert predict.main(["in", "--url", server.url, "--csv"]) == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    common = {"path": "in/a.jpg", "method": "gradcam", "layer": "layer4.1.conv2", "model": "m", "version": "1.0"}
    common |= {"weights": "0123456789ab", "error": "", "message": "", "expected": ""}
    nothing = {"evidence": "", "strength": "", "peak_x": "", "peak_y": ""}
    assert rows[0] == common | {
        "index": "281",
        "label": "tabby",
        "probability": "0.6157",
        "explained": "1",
        "evidence": "1",
        "strength": "2.5",
        "peak_x": "412",
        "peak_y": "130",
    }
    assert rows[1] == common | nothing | {
        "index": "967",
        "label": "espresso",
        "probability": "0.0249",
        "explained": "0",
    }
    assert (rows[2]["label"], rows[2]["evidence"], rows[2]["peak_x"]) == ("golden retriever", "0", "")
    failed = {name: value for name, value in rows[3].items() if value}
    assert failed == {"path": "in/b, c.jpg", "error": "no_answer", "message": "HTTP 502 Bad Gateway"}


def test_a_rejected_option_ends_the_run(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    message = "Unknown label 'tabbi'; did you mean 'tabby'?"
    server.reply = lambda request: (422, {"error": {"code": "unknown_class", "message": message}})
    for number in range(200):
        write(f"in/{number}.jpg")
    assert predict.main(["in", "--url", server.url, "--targets", "tabbi"]) == 1
    assert capsys.readouterr() == (
        "",
        f"unknown_class: {message}. Change the option: every image is sent with it.\n",
    )
    assert len(server.requests) < 200


def test_writes_an_overlay_for_each_explanation(server: FakeServer) -> None:
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
def test_labels_stay_inside_the_file_name(server: FakeServer, folder: Path, label: str, name: str) -> None:
    server.reply = lambda request: (200, answer(explained({**CAT, "label": label}, b"overlay")))
    write("in/cat.jpg")
    assert predict.main(["in/cat.jpg", "--url", server.url, "--output", "deep/out"]) == 0
    assert files_below(str(folder)) == {"in/cat.jpg": b"image", f"deep/out/cat.281-{name}.jpg": b"overlay"}


def test_walks_folders_and_keeps_their_structure(server: FakeServer) -> None:
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


def test_folder_is_searched_without_earlier_overlays(server: FakeServer) -> None:
    write("in/cat.jpg")
    for _ in range(2):
        assert predict.main([".", "--url", server.url]) == 0
    assert len(server.requests) == 2
    assert files_below("build/overlays") == {"cat.281-tabby.jpg": b"overlay"}


def test_requests_overlap_and_rows_keep_the_order(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_failed_images_are_rows_and_others_continue(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
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
    rows = {image: result for image, result, *_ in table_cells(output) if image}
    assert rows["in/0.jpg"] == "undecodable_image: cannot decode; send an intact JPEG"
    assert rows["in/1.jpg"] == "InternalServerException: Worker died."
    assert rows["in/2.jpg"] == "HTTP 502 Bad Gateway"
    assert rows["in/3.jpg"] == 'the response is not that of a Grad-CAM model: {"tabby": 0.9}'
    assert rows["in/4.jpg"].startswith("the response is not that of a Grad-CAM model: {")
    assert rows["in/5.jpg"] == "the response is not that of a Grad-CAM model: [1]"
    assert rows["in/6.jpg"].startswith("the response is not that of a Grad-CAM model: {")
    assert rows["in/7.jpg"] == "281 tabby"
    assert files_below("out") == {"7.281-tabby.jpg": b"overlay"}


def test_unreadable_file_fails_alone(server: FakeServer) -> None:
    images = [ImageFile(Path("gone.jpg"), "gone"), ImageFile(write("cat.jpg"), "cat")]
    gone, cat = explain_all(Client(server.url), images, {}, Path("out"))
    assert str(gone.answer) == "cannot be read: No such file or directory"
    assert cat.overlays == (Path("out/cat.281-tabby.jpg"),)


def test_overlay_that_cannot_be_written_fails_alone(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    write("in/cat.jpg")
    write("in/sub/cat.jpg")
    write("out/sub", b"a file where a folder should be")
    assert predict.main(["in", "--url", server.url, "--output", "out"]) == 1
    output = capsys.readouterr().out
    assert "overlay not written to out/sub/cat.281-tabby.jpg: File exists" in output
    assert Path("out/cat.281-tabby.jpg").read_bytes() == b"overlay"


def test_overlays_are_not_kept_in_memory(server: FakeServer) -> None:
    images = [ImageFile(write("cat.jpg"), "cat")]
    (result,) = explain_all(Client(server.url), images, {}, Path("out"))
    assert isinstance(result.answer, Answer)
    assert [entry.overlay for entry in result.answer.explanations] == [None]


@pytest.mark.parametrize(
    ("status", "message"), [(503, "Queue full."), (500, "Worker died."), (507, "Worker died.")], ids=str
)
def test_temporary_errors_are_retried(server: FakeServer, status: int, message: str) -> None:
    def reply(request: Request) -> Reply:
        failed = status, {"code": status, "type": "SomeException", "message": message}
        return failed if len(server.requests) < 4 else (200, answer(explained(CAT, b"overlay")))

    server.reply = reply
    write("cat.jpg")
    assert predict.main(["cat.jpg", "--url", server.url]) == 0
    assert server.forms() == [{"data": b"image", "overlay": b"jpeg"}] * 4


def test_server_that_stays_overloaded_is_reported(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.reply = lambda request: (503, {"code": 503, "type": "ServiceUnavailableException", "message": "Full."})
    write("cat.jpg")
    assert predict.main(["cat.jpg", "--url", server.url]) == 1
    assert len(server.requests) == 1 + 6
    assert "│ ServiceUnavailableException: Full. │" in capsys.readouterr().out


def test_a_broken_connection_is_retried_once(server: FakeServer) -> None:
    def reply(request: Request) -> Reply:
        if len(server.requests) == 1:
            raise ConnectionAbortedError
        return 200, answer(explained(CAT, b"overlay"))

    server.reply = reply
    write("cat.jpg")
    assert predict.main(["cat.jpg", "--url", server.url]) == 0
    assert len(server.requests) == 2


def test_a_rejected_image_is_not_sent_again(server: FakeServer) -> None:
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
    monkeypatch.setattr(client, "CONNECT_SECONDS", 0.1)
    write("cat.jpg")
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        assert predict.main(["cat.jpg", "--url", f"http://127.0.0.1:{full.getsockname()[1]}"]) == 1
    assert capsys.readouterr().err.startswith("No server answers at http://127.0.0.1:")


def test_no_proxy_is_used_for_this_machine(
    server: FakeServer, closed_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", closed_url)
    write("cat.jpg")
    assert predict.main(["cat.jpg", "--url", server.url]) == 0


def test_unknown_model_is_one_message(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_connection_that_breaks_off_fails_alone(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    def reply(request: Request) -> Reply:
        if request.form["data"] == b"huge":
            raise ConnectionAbortedError
        return 200, answer(explained(CAT, b"overlay"))

    server.reply = reply
    write("in/1.jpg", b"huge")
    write("in/2.jpg")
    assert predict.main(["in", "--url", server.url]) == 1
    output = capsys.readouterr().out
    assert "│ in/1.jpg │ no answer from the server: it closed the connection │" in output
    assert "│ in/2.jpg │ 281 tabby " in output
    assert len(server.requests) == 3


def test_answers_from_before_the_failure_are_shown(
    server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.client.explained.IN_FLIGHT", 1)
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
    server: FakeServer, capsys: pytest.CaptureFixture[str]
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
        (["cat.jpg", "empty"], "no image in folder: empty (looked for *.bmp, *.gif, *.jpeg, *.jpg, "),
        (["cat.jpg", "--targets", "281,,285"], "'281,,285' has an empty class"),
        (["cat.jpg", "--targets", ""], "'' has an empty class"),
        (["cat.jpg", "--topk", "0"], "'0' is not a number of classes"),
        (["cat.jpg", "--topk", "five"], "'five' is not a number of classes"),
        (["cat.jpg", "--url", "127.0.0.1:8080"], "'127.0.0.1:8080' is not a valid URL; write http://HOST:PORT"),
        (["cat.jpg", "--url", "ftp://127.0.0.1"], "'ftp://127.0.0.1' is not a valid URL"),
        (["cat.jpg", "--url", "http://"], "'http://' is not a valid URL"),
        (["cat.jpg", "--output", "cat.jpg"], "File exists: 'cat.jpg'"),
        (["cat.jpg", "--explain", "-1"], "'-1' is not a number of classes; write 0 or more"),
        (["cat.jpg", "--alpha", "1.5"], "'1.5' is not a number between 0 and 1"),
        (["cat.jpg", "--boxes", "half"], "'half' is not a number between 0 and 1"),
        (["cat.jpg", "--threshold", "nan"], "'nan' is not a number between 0 and 1"),
        (["cat.jpg", "--explain", "2", "--targets", "1"], "not allowed with argument --explain"),
        (["cat.jpg", "--header", "Bearer"], "'Bearer' is not a header; write 'Authorization: Bearer TOKEN'"),
        (["cat.jpg", "--header", "A: b\r\nC: d"], "is not a header"),
        (["cat.jpg", "--json", "--csv"], "not allowed with argument --json"),
        (["cat.jpg", "--output", "a", "--bundle", "b"], "not allowed with argument --output"),
    ],
)
def test_wrong_usage_sends_nothing(
    server: FakeServer, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    write("cat.jpg")
    write("empty/notes.txt")
    with pytest.raises(SystemExit) as exit_info:
        predict.main(["--url", server.url, *arguments])
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err
    assert server.requests == []


@pytest.mark.parametrize(("images", "bar"), [(1, False), (2, True)])
def test_bar_is_drawn_on_the_terminal_for_several_images(server: FakeServer, images: int, bar: bool) -> None:
    for number in range(images):
        write(f"in/{number}.jpg")
    terminal, child = os.openpty()
    command: list[str | Path] = [sys.executable, SCRIPT, "in", "--url", server.url]
    with os.fdopen(terminal, "rb", buffering=0) as screen:
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=child, check=True, timeout=60)
        # Reading from a terminal fails if nothing was written to it.
        os.write(child, b"end")
        drawn = screen.read(65536)
        os.close(child)
    assert (b"Explaining" in drawn) is bar
    assert b"Explaining" not in run.stdout
    assert "│ in/0.jpg │".encode() in run.stdout


def test_interrupt_does_not_wait_for_a_stuck_server(server: FakeServer) -> None:
    arrived, finished = threading.Event(), threading.Event()

    def reply(request: Request) -> Reply:
        arrived.set()
        finished.wait(timeout=60)
        return 500, {}

    server.reply = reply
    write("cat.jpg")
    command: list[str | Path] = [sys.executable, SCRIPT, "cat.jpg", "--url", server.url]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as client:
        assert arrived.wait(timeout=60)
        client.send_signal(signal.SIGINT)
        _, errors = client.communicate(timeout=30)
    finished.set()
    assert (client.returncode, errors) == (130, b"")


def test_runs_by_its_name_and_without_the_network_libraries() -> None:
    by_name = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, check=True, timeout=60)
    assert by_name.stdout.startswith("usage: predict.py ")
    code = (
        "import sys, tools.client.predict; "
        "sys.exit(' '.join({'torch', 'numpy', 'gradcam', 'ts'} & set(sys.modules)) or None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_report_has_explained_and_failed_images(server: FakeServer) -> None:
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
    assert errors[1]["message"] == "undecodable_image: cannot decode; send an intact JPEG"


def test_a_report_that_cannot_be_written(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    write("a.jpg")
    with pytest.raises(SystemExit):
        predict.main(["a.jpg", "--url", server.url, "--report", "no/such/report.html"])
    assert "no/such/report.html" in capsys.readouterr().err
    assert server.requests == []
