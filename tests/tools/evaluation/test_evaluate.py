"""The command from an archive and images to CSV files, table, and plot."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from PIL import Image

from tools.archive.build import Build, build
from tools.evaluation import evaluate

# pytorch-grad-cam's imputer passes tensors to NumPy in a way that NumPy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")

TINY = """
from torch import nn

def create_model(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=4, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes),
    )
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    (folder / "tiny.py").write_text(TINY)
    (folder / "labels.txt").write_text("cat\ndog\n")
    return build(
        Build(
            "tiny",
            weights="random",
            model_file=folder / "tiny.py",
            labels=folder / "labels.txt",
            input_size=(32, 32),
            output=folder,
        )
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, shift in (("left", 0), ("right", 20)):
        image = Image.new("RGB", (40, 36), "navy")
        image.paste("orange", (shift, 8, shift + 16, 24))
        image.save(folder / f"{name}.png")
    return folder


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run(archive: Path, images: Path, output: Path, *options: str) -> int:
    return evaluate.main([str(images), "--archive", str(archive), "--output", str(output), *options])


def test_command_writes_a_row_for_each_image_method_and_layer(
    archive: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert run(archive, images, output, "--methods", "layercam,scorecam,random,center", "--layers", "0,2") == 0
    rows = read(output / "pictures.csv")
    assert [(row["picture"], row["layer"], row["method"]) for row in rows] == [
        (image, layer, method)
        for image in ("left", "right")
        for layer in ("0", "2")
        for method in ("layercam", "scorecam", "random", "center")
    ]
    for row in rows:
        assert row["label"] == ["cat", "dog"][int(row["index"])]
        assert 0.5 <= float(row["probability"]) <= 1
        assert all(0 <= float(row[name]) <= 1 for name in ("deletion", "insertion"))
        assert float(row["increase_percent"]) in (0, 100)
    summary = read(output / "summary.csv")
    assert [(row["layer"], row["method"], row["pictures"]) for row in summary][:2] == [
        ("0", "layercam", "2"),
        ("0", "scorecam", "2"),
    ]
    first, second = (float(row["deletion"]) for row in rows if (row["layer"], row["method"]) == ("0", "layercam"))
    assert float(summary[0]["deletion"]) == pytest.approx((first + second) / 2, abs=1e-6)
    assert float(summary[0]["deletion_error"]) == pytest.approx(abs(first - second) / 2, abs=1e-6)
    with Image.open(output / "plot.png") as plot:
        assert plot.format == "PNG"
    printed = capsys.readouterr().out
    assert "scorecam" in printed
    assert "over 2 images" in printed


def test_numbers_depend_on_the_image_alone(archive: Path, images: Path, tmp_path: Path) -> None:
    options = ("--methods", "gradcam,random")
    assert run(archive, images, tmp_path / "both", *options) == 0
    assert run(archive, images / "right.png", tmp_path / "one", *options) == 0
    assert read(tmp_path / "both" / "pictures.csv")[2:] == read(tmp_path / "one" / "pictures.csv")


def test_default_is_the_models_layer_and_all_cheap_methods(archive: Path, images: Path, tmp_path: Path) -> None:
    assert run(archive, images / "left.png", tmp_path / "out") == 0
    rows = read(tmp_path / "out" / "pictures.csv")
    assert {row["layer"] for row in rows} == {"2"}
    assert " ".join(row["method"] for row in rows) == (
        "gradcam gradcam++ xgradcam hirescam layercam eigencam eigengradcam finercam ablationcam random center"
    )


def test_baselines_alone_with_the_first_spelling_of_center(archive: Path, images: Path, tmp_path: Path) -> None:
    assert run(archive, images, tmp_path / "out", "--methods", "centre") == 0
    assert [row["method"] for row in read(tmp_path / "out" / "pictures.csv")] == ["center", "center"]


def test_invalid_image_is_named_and_skipped(
    archive: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "broken.png").write_bytes((images / "left.png").read_bytes()[:60])
    assert run(archive, images, tmp_path / "out", "--methods", "gradcam") == 1
    assert "skipped broken: Image is truncated" in capsys.readouterr().err
    assert [row["picture"] for row in read(tmp_path / "out" / "pictures.csv")] == ["left", "right"]


def test_only_invalid_images(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"not an image")
    assert run(archive, tmp_path / "broken.jpg", tmp_path / "out") == 1
    assert "No image could be measured" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--methods", "gradcm", "did you mean 'gradcam'"),
        ("--methods", "gradcam,,random", "has an empty name"),
        ("--layers", "", "has an empty name"),
    ],
)
def test_wrong_usage(
    option: str,
    value: str,
    message: str,
    archive: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(archive, images, tmp_path / "out", option, value)
    assert message in " ".join(capsys.readouterr().err.split())


def test_missing_folder(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(archive, tmp_path / "nowhere", tmp_path / "out")
    assert "no such file or folder" in capsys.readouterr().err


@pytest.mark.parametrize(("layer", "message"), [("9", "Unknown layer '9'"), ("6", "Cannot explain '6'")])
def test_layer_that_cannot_be_explained(
    layer: str, message: str, archive: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(archive, images, tmp_path / "out", "--layers", layer) == 1
    assert message in capsys.readouterr().err


def test_file_that_is_not_an_archive(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(images / "left.png", images, tmp_path / "out") == 1
    assert "Cannot load" in capsys.readouterr().err
