"""The measures on images whose evidence is known, so that the values can be worked out by hand; then the command."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from tools.archive.build import Build, build
from tools.evaluation import evaluate
from tools.evaluation.evaluate import Estimate, Row, Scores

# pytorch-grad-cam's imputer hands tensors to NumPy in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")

SIDE = 16
PIXELS = SIDE * SIDE
# A white block on black, a sixteenth of the image: exactly one step of the deletion and insertion curves.
BLOCK = torch.zeros(SIDE, SIDE)
BLOCK[4:8, 8:12] = 1
IMAGE = BLOCK.expand(3, SIDE, SIDE)
BLACK = torch.zeros(3, SIDE, SIDE)

TINY = """
from torch import nn

def create_model(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=4, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes),
    )
"""


def block_probability(images: Tensor) -> Tensor:
    """A linear "network": the mean of the block's pixels."""
    return (images.mean(dim=1) * BLOCK).sum(dim=(1, 2)) / BLOCK.sum()


def measure(heatmap: Tensor) -> Scores:
    return evaluate.measure(block_probability, IMAGE, BLACK, heatmap)


# ----------------------------------------------------------------------------- curves


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [([1.0, 1.0], 1.0), ([1.0, 0.0], 0.5), ([1.0, 0.0, 0.0], 0.25), ([0.0, 0.4, 1.0, 0.2], 1.5 / 3)],
)
def test_area_is_that_under_the_straight_lines_between_the_points(probabilities: list[float], expected: float) -> None:
    assert evaluate.area(torch.tensor(probabilities)) == pytest.approx(expected)


def test_curve_exchanges_the_same_number_of_pixels_at_each_step() -> None:
    ranks = torch.arange(PIXELS).reshape(SIDE, SIDE)
    shares = evaluate.curve(lambda x: x.mean(dim=(1, 2, 3)), BLACK, torch.ones_like(BLACK), ranks)
    assert shares.tolist() == pytest.approx([step / evaluate.STEPS for step in range(evaluate.STEPS + 1)])


def test_deletion_of_a_perfect_map_by_hand() -> None:
    # The block goes in the first of 16 steps: 1, 0, 0, … has half a step's area.
    assert measure(BLOCK).deletion == pytest.approx(0.5 / 16)


def test_deletion_of_an_inverted_map_by_hand() -> None:
    # The block goes in the last of 16 steps: 1, 1, …, 1, 0.
    assert measure(1 - BLOCK).deletion == pytest.approx(1 - 0.5 / 16)


def test_insertion_of_a_perfect_map_by_hand() -> None:
    blurred = gaussian_blur(IMAGE, 11, 5.0)
    start = float(block_probability(blurred[None]))
    assert 0.1 < start < 0.5
    # start, 1, 1, …: a trapezium, then 15 whole steps.
    assert measure(BLOCK).insertion == pytest.approx((0.5 * (start + 1) + 15) / 16)


def test_deletion_with_two_pieces_of_evidence_by_hand() -> None:
    weights = torch.zeros(SIDE, SIDE)
    weights[0], weights[15] = 0.75 / 16, 0.25 / 16  # a row is a step
    white = torch.ones(3, SIDE, SIDE)

    def probability(images: Tensor) -> Tensor:
        return (images[:, 0] * weights).sum(dim=(1, 2))

    # Rows in order of the map: 15 (of weight ¼) goes first, 0 (of ¾) goes third: 1, ¾, ¾, 0, 0, …
    heatmap = torch.zeros(SIDE, SIDE)
    heatmap[15], heatmap[7], heatmap[0] = 1, 0.8, 0.5
    deletion = evaluate.measure(probability, white, BLACK, heatmap).deletion
    assert deletion == pytest.approx((0.5 + 0.75 + 0.75) / 16)


def test_grid_is_resized_to_the_image() -> None:
    quarter = torch.zeros(3, SIDE, SIDE)
    quarter[:, :8, :8] = 1
    scores = evaluate.measure(
        lambda images: images[:, 0, :8, :8].mean(dim=(1, 2)), quarter, BLACK, torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    )
    # Were the order right to the pixel: 1, ¾, ½, ¼, 0 and on. The bilinear map's quarter is rounded off.
    assert scores.deletion == pytest.approx(2 / 16, abs=0.01)


# ----------------------------------------------------------------------------- ranks


def test_ranks_follow_the_map() -> None:
    assert evaluate.rank(torch.tensor([[0.2, 0.9], [0.5, 0.1]])).tolist() == [[2, 0], [1, 3]]


def test_ties_are_decided_by_the_same_coarse_noise_for_every_map() -> None:
    flat = evaluate.rank(torch.zeros(56, 56))
    assert flat.flatten().sort().values.tolist() == list(range(56 * 56))
    peak = torch.zeros(56, 56)
    peak[30, 30] = 1
    ranks = evaluate.rank(peak)
    assert ranks[30, 30] == 0
    others = peak == 0
    assert torch.equal(ranks[others].argsort(), flat[others].argsort())
    # Coarse: what goes first is patches, not single pixels. Of scattered pixels a tenth would have such a neighbour.
    first = flat < 56 * 56 // 10
    assert (first[:, 1:] & first[:, :-1]).sum() > 0.8 * first.sum()


# ----------------------------------------------------------------------------- drop and increase


@pytest.mark.parametrize(
    ("before", "after", "drop", "increase"),
    [(0.8, 0.2, 75, 0), (0.2, 0.8, 0, 100), (0.5, 0.5, 0, 0), (0.001, 0.0, 100, 0)],
)
def test_drop_is_relative_and_increase_counts(before: float, after: float, drop: float, increase: float) -> None:
    assert evaluate.drop_percent(before, after) == pytest.approx(drop)
    assert evaluate.increase_percent(before, after) == increase


def test_image_is_multiplied_by_the_map_before_normalisation() -> None:
    # Normalised with mean ½ and deviation ½: black is -1, white 1.
    white, black = torch.ones(3, SIDE, SIDE), -torch.ones(3, SIDE, SIDE)
    scores = evaluate.measure(
        lambda images: (images.mean(dim=(1, 2, 3)) + 1) / 2, white, black, torch.full((SIDE, SIDE), 0.25)
    )
    assert scores.drop_percent == pytest.approx(75)
    assert scores.increase_percent == 0


def test_increase_where_the_map_hides_what_speaks_against_the_class() -> None:
    scores = evaluate.measure(lambda images: 1 - block_probability(images) / 2, IMAGE, BLACK, 1 - BLOCK)
    assert (scores.drop_percent, scores.increase_percent) == (0, 100)


# ----------------------------------------------------------------------------- ROAD


def test_road_by_hand() -> None:
    # Most relevant first, the block is in the first tenth, and is filled in from the black around it: 0.
    # Least relevant first, up to half of the image goes, but not the block: 1.
    assert measure(BLOCK).road == pytest.approx(0.5, abs=0.01)
    # The other way round, the block goes last and first.
    assert measure(1 - BLOCK).road == pytest.approx(-0.5, abs=0.01)


def test_road_takes_the_stated_shares_away(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []

    def imputer() -> Callable[[Tensor, Tensor], Tensor]:
        return lambda image, mask: kept.append(int(mask.sum())) or image  # type: ignore[func-returns-value]

    monkeypatch.setattr(evaluate, "NoisyLinearImputer", imputer)
    # Fifteen sixteenths of this map are 0: a percentile of the values could not tell the shares apart.
    evaluate.road(block_probability, IMAGE, evaluate.rank(BLOCK))
    expected = [PIXELS - round(share * PIXELS) for share in evaluate.ROAD_SHARES]
    assert kept == expected * 2


def test_road_is_zero_where_imputation_restores_everything() -> None:
    grey = torch.full((3, SIDE, SIDE), 0.5)
    assert evaluate.road(block_probability, grey, evaluate.rank(BLOCK)) == pytest.approx(0, abs=0.005)


def test_road_is_deterministic_and_leaves_torch_s_generator_alone() -> None:
    torch.manual_seed(1)
    first = evaluate.road(block_probability, IMAGE, evaluate.rank(BLOCK))
    drawn = torch.rand(1)
    second = evaluate.road(block_probability, IMAGE, evaluate.rank(BLOCK))
    assert first == second
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1))


# ----------------------------------------------------------------------------- all measures


@pytest.mark.parametrize("name", ["deletion", "insertion", "drop_percent", "road"])
def test_a_perfect_map_beats_a_random_one_and_that_an_inverted_one(name: str) -> None:
    random = [getattr(measure(evaluate.noise(seed, (SIDE, SIDE))), name) for seed in range(10)]
    sign = 1 if evaluate.HIGHER_IS_BETTER[name] else -1
    perfect, inverted = getattr(measure(BLOCK), name), getattr(measure(1 - BLOCK), name)
    assert sign * perfect > sign * sum(random) / len(random) > sign * inverted


# ----------------------------------------------------------------------------- baselines


def test_centre_is_highest_in_the_middle_and_symmetric() -> None:
    middle = evaluate.baseline("centre", (7, 5), seed=0)
    assert middle.shape == (7, 5)
    assert middle[3, 2] == 1 == middle.max()
    assert torch.allclose(middle, middle.flip(0))
    assert torch.allclose(middle, middle.flip(1))
    # Two sevenths of the side away, at a deviation of a quarter.
    assert middle[1, 2] == pytest.approx(math.exp(-((2 / 7) ** 2) / (2 * 0.25**2)))


def test_random_depends_on_the_seed_only() -> None:
    first = evaluate.baseline("random", (7, 5), seed=3)
    assert torch.equal(first, evaluate.baseline("random", (7, 5), seed=3))
    assert not torch.equal(first, evaluate.baseline("random", (7, 5), seed=4))


# ----------------------------------------------------------------------------- summary


def test_estimate_by_hand() -> None:
    assert Estimate.of([1, 3]) == Estimate(2, 1)
    assert Estimate.of([2, 4, 4, 4, 5, 5, 7, 9]).error == pytest.approx(math.sqrt(32 / 7 / 8))
    assert math.isnan(Estimate.of([1]).error)


def test_summary_groups_by_layer_and_method_and_knows_the_best() -> None:
    def row(picture: str, method: str, value: float) -> Row:
        return Row(picture, 0, "cat", 0.9, method, "conv", Scores(value, value, 0, 0, value))

    rows = [row("a", "gradcam", 0.1), row("a", "random", 0.3), row("b", "gradcam", 0.3), row("b", "random", 0.5)]
    summaries = evaluate.summarize(rows)
    assert [(entry.method, entry.layer, entry.pictures) for entry in summaries] == [
        ("gradcam", "conv", 2),
        ("random", "conv", 2),
    ]
    assert summaries[0].estimates["deletion"].error == pytest.approx(0.1)
    assert evaluate.best(summaries, "deletion") == pytest.approx(0.2)
    assert evaluate.best(summaries, "insertion") == pytest.approx(0.4)


def test_plot_has_a_panel_for_each_measure_and_names_every_layer() -> None:
    rows = [Row("a", 0, "cat", 0.9, "gradcam", layer, Scores(0.1, 0.2, 3, 0, 0.5)) for layer in ("conv", "_head")]
    figure = evaluate.plot(evaluate.summarize(rows))
    assert [panel.get_title().split(" (")[0] for panel in figure.axes] == [
        "Deletion",
        "Insertion",
        "Drop %",
        "Increase %",
        "ROAD",
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["at conv", "at _head"]


# ----------------------------------------------------------------------------- command


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
            input_size=32,
            output=folder,
        )
    )


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, shift in (("left", 0), ("right", 20)):
        picture = Image.new("RGB", (40, 36), "navy")
        picture.paste("orange", (shift, 8, shift + 16, 24))
        picture.save(folder / f"{name}.png")
    return folder


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run(archive: Path, pictures: Path, output: Path, *options: str) -> int:
    return evaluate.main([str(pictures), "--archive", str(archive), "--output", str(output), *options])


def test_command_writes_a_row_for_each_picture_method_and_layer(
    archive: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert run(archive, pictures, output, "--methods", "layercam,scorecam,random,centre", "--layers", "0,2") == 0
    rows = read(output / "pictures.csv")
    assert [(row["picture"], row["layer"], row["method"]) for row in rows] == [
        (picture, layer, method)
        for picture in ("left", "right")
        for layer in ("0", "2")
        for method in ("layercam", "scorecam", "random", "centre")
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
    assert "over 2 pictures" in printed


def test_numbers_depend_on_the_picture_alone(archive: Path, pictures: Path, tmp_path: Path) -> None:
    options = ("--methods", "gradcam,random")
    assert run(archive, pictures, tmp_path / "both", *options) == 0
    assert run(archive, pictures / "right.png", tmp_path / "one", *options) == 0
    assert read(tmp_path / "both" / "pictures.csv")[2:] == read(tmp_path / "one" / "pictures.csv")


def test_default_is_the_model_s_layer_and_all_methods_with_meaning_and_little_cost(
    archive: Path, pictures: Path, tmp_path: Path
) -> None:
    assert run(archive, pictures / "left.png", tmp_path / "out") == 0
    rows = read(tmp_path / "out" / "pictures.csv")
    assert {row["layer"] for row in rows} == {"2"}
    assert " ".join(row["method"] for row in rows) == (
        "gradcam gradcam++ xgradcam hirescam layercam eigencam eigengradcam finercam ablationcam random centre"
    )


def test_baselines_alone(archive: Path, pictures: Path, tmp_path: Path) -> None:
    assert run(archive, pictures, tmp_path / "out", "--methods", "centre") == 0
    assert [row["method"] for row in read(tmp_path / "out" / "pictures.csv")] == ["centre", "centre"]


def test_bad_picture_is_named_and_skipped(
    archive: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "broken.png").write_bytes((pictures / "left.png").read_bytes()[:60])
    assert run(archive, pictures, tmp_path / "out", "--methods", "gradcam") == 1
    assert "skipped broken: the picture is truncated" in capsys.readouterr().err
    assert [row["picture"] for row in read(tmp_path / "out" / "pictures.csv")] == ["left", "right"]


def test_nothing_but_bad_pictures(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    assert run(archive, tmp_path / "broken.jpg", tmp_path / "out") == 1
    assert "no picture could be measured" in capsys.readouterr().err


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
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(archive, pictures, tmp_path / "out", option, value)
    assert message in " ".join(capsys.readouterr().err.split())


def test_missing_folder(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(archive, tmp_path / "nowhere", tmp_path / "out")
    assert "no such file or folder" in capsys.readouterr().err


@pytest.mark.parametrize(("layer", "message"), [("9", "has no layer '9'"), ("6", "cannot explain '6'")])
def test_layer_that_cannot_be_explained(
    layer: str, message: str, archive: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(archive, pictures, tmp_path / "out", "--layers", layer) == 1
    assert message in capsys.readouterr().err


def test_file_that_is_no_archive(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(pictures / "left.png", pictures, tmp_path / "out") == 1
    assert "cannot be loaded" in capsys.readouterr().err
