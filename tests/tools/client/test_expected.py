"""Expected classes: the CSV file, and the maps for classes that the network does not predict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.fake_server import CAT, CUP, FakeServer, Reply, answer, explained
from tools.client import predict
from tools.client.expected import Expected, ExpectedError


def read(folder: Path, content: str) -> Expected:
    path = folder / "labels.csv"
    path.write_text(content, encoding="utf-8")
    return Expected.read(path)


@pytest.mark.parametrize("header", ["", "file,label\n", "\ufeffFile, Label\n"])
def test_images_are_found_by_the_end_of_their_path(tmp_path: Path, header: str) -> None:
    expected = read(tmp_path, f'{header}1.jpg,cat\ncups/1.jpg,"cup, red"\n\n')
    assert expected.of(Path("/data/cats/1.jpg")) == "cat"
    assert expected.of(Path("/data/cups/1.jpg")) == "cup, red"
    assert expected.of(Path("11.jpg")) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1.jpg\n", "labels.csv, line 1: must be a file and a label, got '1.jpg'"),
        ("file,label\n1.jpg,cat,dog\n", "labels.csv, line 2: must be a file and a label, got '1.jpg,cat,dog'"),
        ("1.jpg,\n", "labels.csv, line 1: must be a file and a label, got '1.jpg,'"),
        ("1.jpg,cat\n1.jpg,dog\n", "labels.csv, line 2: '1.jpg' has the labels 'cat' and 'dog'"),
    ],
)
def test_a_malformed_file(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ExpectedError) as error:
        read(tmp_path, content)
    assert str(error.value).endswith(message)


def reply(request: object) -> Reply:
    """Predict a tabby, and explain what is asked for; there is no class `dragon`."""
    targets = request.form.get("targets", b"tabby")  # type: ignore[attr-defined]
    if b"dragon" in targets:
        return 422, {"error": {"code": "unknown_class", "message": "there is no class 'dragon'"}}
    return 200, answer(explained(CUP if b"espresso" in targets else CAT, b"overlay"))


def rows(server: FakeServer, labels: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, object]]]:
    """Explain a.jpg with expected labels; return the exit status and the lines of JSON."""
    server.reply = reply
    Path("a.jpg").write_bytes(b"image")
    Path("labels.csv").write_text(labels)
    status = predict.main(["a.jpg", "--url", server.url, "--expected", "labels.csv", "--json", "--method", "layercam"])
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_another_expected_class_is_explained_as_well(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    status, (row,) = rows(server, "a.jpg,espresso", capsys)
    assert status == 0
    assert row["expected"] == "espresso"
    assert [entry["label"] for entry in row["explanations"]] == ["tabby", "espresso"]  # type: ignore[attr-defined]
    first, second = server.forms()
    assert "targets" not in first
    assert second == {"data": b"image", "targets": b'"espresso"', "method": b"layercam"}


@pytest.mark.parametrize("label", ["tabby", "281"])
def test_the_predicted_class_needs_no_second_request(
    server: FakeServer, capsys: pytest.CaptureFixture[str], label: str
) -> None:
    _, (row,) = rows(server, f"a.jpg,{label}", capsys)
    assert row["expected"] == "tabby"
    assert len(server.requests) == 1


def test_a_class_that_the_model_does_not_have(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    status, (row,) = rows(server, "a.jpg,dragon", capsys)
    assert status == 1
    assert "expected class 'dragon': unknown_class" in row["error"]["message"]  # type: ignore[index]


def test_the_table_ends_with_the_agreement(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.reply = reply
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        Path(name).write_bytes(b"image")
    Path("labels.csv").write_text("a.jpg,tabby\nb.jpg,espresso\n")
    assert predict.main(["a.jpg", "b.jpg", "c.jpg", "--url", server.url, "--expected", "labels.csv"]) == 0
    assert "As expected: 1 of 2 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--expected", "labels.csv"], ["--expected", "missing.csv"], ["--expected", "b.csv", "--bundle", "x"]]
)
def test_unusable_arguments(server: FakeServer, arguments: list[str]) -> None:
    Path("a.jpg").write_bytes(b"image")
    Path("labels.csv").write_text("a.jpg\n")
    with pytest.raises(SystemExit) as stop:
        predict.main(["a.jpg", "--url", server.url, *arguments])
    assert stop.value.code == 2
    assert server.requests == []
