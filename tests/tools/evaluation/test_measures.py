"""The measures on images whose evidence is known, so that their values can be computed by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from tools.evaluation import measures
from tools.evaluation.baseline_maps import uniform_noise
from tools.evaluation.measures import Scores
from tools.evaluation.summary import HIGHER_IS_BETTER

# pytorch-grad-cam's imputer passes tensors to NumPy in a way that NumPy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")

SIDE = 16
PIXELS = SIDE * SIDE
# A white block on black, a sixteenth of the image: exactly one step of the deletion and insertion curves.
BLOCK = torch.zeros(SIDE, SIDE)
BLOCK[4:8, 8:12] = 1
IMAGE = BLOCK.expand(3, SIDE, SIDE)
BLACK = torch.zeros(3, SIDE, SIDE)


def block_probability(images: Tensor) -> Tensor:
    """A linear "network": the mean of the block's pixels."""
    return (images.mean(dim=1) * BLOCK).sum(dim=(1, 2)) / BLOCK.sum()


def measure(heatmap: Tensor) -> Scores:
    return measures.measure(block_probability, IMAGE, BLACK, heatmap)


# ----------------------------------------------------------------------------- curves


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [([1.0, 1.0], 1.0), ([1.0, 0.0], 0.5), ([1.0, 0.0, 0.0], 0.25), ([0.0, 0.4, 1.0, 0.2], 1.5 / 3)],
)
def test_area_under_straight_lines_between_the_points(probabilities: list[float], expected: float) -> None:
    assert measures.area(torch.tensor(probabilities)) == pytest.approx(expected)


def test_curve_replaces_the_same_number_of_pixels_at_each_step() -> None:
    ranks = torch.arange(PIXELS).reshape(SIDE, SIDE)
    shares = measures.curve(lambda x: x.mean(dim=(1, 2, 3)), BLACK, torch.ones_like(BLACK), ranks)
    assert shares.tolist() == pytest.approx([step / measures.STEPS for step in range(measures.STEPS + 1)])


def test_deletion_of_a_perfect_map_by_hand() -> None:
    # The first of 16 steps removes the block: 1, 0, 0, … has half a step's area.
    assert measure(BLOCK).deletion == pytest.approx(0.5 / 16)


def test_deletion_of_an_inverted_map_by_hand() -> None:
    # The last of 16 steps removes the block: 1, 1, …, 1, 0.
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

    # In the map's order, row 15 (weight ¼) is removed first and row 0 (weight ¾) third: 1, ¾, ¾, 0, 0, …
    heatmap = torch.zeros(SIDE, SIDE)
    heatmap[15], heatmap[7], heatmap[0] = 1, 0.8, 0.5
    deletion = measures.measure(probability, white, BLACK, heatmap).deletion
    assert deletion == pytest.approx((0.5 + 0.75 + 0.75) / 16)


def test_grid_is_resized_to_the_image() -> None:
    quarter = torch.zeros(3, SIDE, SIDE)
    quarter[:, :8, :8] = 1
    scores = measures.measure(
        lambda images: images[:, 0, :8, :8].mean(dim=(1, 2)), quarter, BLACK, torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    )
    # An exact order would give 1, ¾, ½, ¼, 0, … The quarter of the bilinear map has rounded corners.
    assert scores.deletion == pytest.approx(2 / 16, abs=0.01)


# ----------------------------------------------------------------------------- ranks


def test_ranks_follow_the_map() -> None:
    assert measures.rank(torch.tensor([[0.2, 0.9], [0.5, 0.1]])).tolist() == [[2, 0], [1, 3]]


def test_the_same_coarse_noise_ranks_ties_of_every_map() -> None:
    flat = measures.rank(torch.zeros(56, 56))
    assert flat.flatten().sort().values.tolist() == list(range(56 * 56))
    peak = torch.zeros(56, 56)
    peak[30, 30] = 1
    ranks = measures.rank(peak)
    assert ranks[30, 30] == 0
    others = peak == 0
    assert torch.equal(ranks[others].argsort(), flat[others].argsort())
    # Coarse: patches come first, not single pixels. Of scattered pixels, a tenth would have such a neighbor.
    first = flat < 56 * 56 // 10
    assert (first[:, 1:] & first[:, :-1]).sum() > 0.8 * first.sum()


# ----------------------------------------------------------------------------- drop and increase


@pytest.mark.parametrize(
    ("before", "after", "drop", "increase"),
    [(0.8, 0.2, 75, 0), (0.2, 0.8, 0, 100), (0.5, 0.5, 0, 0), (0.001, 0.0, 100, 0)],
)
def test_drop_is_relative_and_increase_counts(before: float, after: float, drop: float, increase: float) -> None:
    assert measures.drop_percent(before, after) == pytest.approx(drop)
    assert measures.increase_percent(before, after) == increase


def test_image_is_multiplied_by_the_map_before_normalization() -> None:
    # Normalized with mean ½ and deviation ½: black is -1, white 1.
    white, black = torch.ones(3, SIDE, SIDE), -torch.ones(3, SIDE, SIDE)
    scores = measures.measure(
        lambda images: (images.mean(dim=(1, 2, 3)) + 1) / 2, white, black, torch.full((SIDE, SIDE), 0.25)
    )
    assert scores.drop_percent == pytest.approx(75)
    assert scores.increase_percent == 0


def test_increase_where_the_map_hides_evidence_against_the_class() -> None:
    scores = measures.measure(lambda images: 1 - block_probability(images) / 2, IMAGE, BLACK, 1 - BLOCK)
    assert (scores.drop_percent, scores.increase_percent) == (0, 100)


# ----------------------------------------------------------------------------- ROAD


def test_road_by_hand() -> None:
    # Most relevant first: the first tenth contains the block, which is imputed from the black around it: 0.
    # Least relevant first: up to half of the image is removed, but not the block: 1.
    assert measure(BLOCK).road == pytest.approx(0.5, abs=0.01)
    # Inverted, the block is removed last and first.
    assert measure(1 - BLOCK).road == pytest.approx(-0.5, abs=0.01)


def test_road_removes_the_stated_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []

    def imputer() -> Callable[[Tensor, Tensor], Tensor]:
        return lambda image, mask: kept.append(int(mask.sum())) or image  # type: ignore[func-returns-value]

    monkeypatch.setattr(measures, "NoisyLinearImputer", imputer)
    # Fifteen sixteenths of this map are 0: a percentile of the values could not distinguish the shares.
    measures.road(block_probability, IMAGE, measures.rank(BLOCK))
    expected = [PIXELS - round(share * PIXELS) for share in measures.ROAD_SHARES]
    assert kept == expected * 2


def test_road_is_zero_where_imputation_restores_everything() -> None:
    gray = torch.full((3, SIDE, SIDE), 0.5)
    assert measures.road(block_probability, gray, measures.rank(BLOCK)) == pytest.approx(0, abs=0.005)


def test_road_is_deterministic_and_keeps_torchs_random_state() -> None:
    torch.manual_seed(1)
    first = measures.road(block_probability, IMAGE, measures.rank(BLOCK))
    drawn = torch.rand(1)
    second = measures.road(block_probability, IMAGE, measures.rank(BLOCK))
    assert first == second
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1))


# ----------------------------------------------------------------------------- all measures


@pytest.mark.parametrize("name", ["deletion", "insertion", "drop_percent", "road"])
def test_perfect_map_beats_a_random_one_which_beats_an_inverted_one(name: str) -> None:
    random = [getattr(measure(uniform_noise(seed, (SIDE, SIDE))), name) for seed in range(10)]
    sign = 1 if HIGHER_IS_BETTER[name] else -1
    perfect, inverted = getattr(measure(BLOCK), name), getattr(measure(1 - BLOCK), name)
    assert sign * perfect > sign * sum(random) / len(random) > sign * inverted
