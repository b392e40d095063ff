"""Measures of how faithful a map is: deletion, insertion, drop, increase, and ROAD.

Each changes the model input where the map says so, and observes the probability of the explained class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.functional import gaussian_blur

from tools.evaluation.baseline_maps import uniform_noise

SEED = 0
# Number of steps of the deletion and insertion curves.
STEPS = 16
# Insertion begins with this blur, as in the code of its authors.
BLUR_PIXELS, BLUR_SIGMA = 11, 5.0
# Shares of the pixels that ROAD removes. With larger ones, the imputation takes longer than everything else.
ROAD_SHARES = (0.1, 0.2, 0.3, 0.5)
# Size of the noise that ranks pixels of equal weight.
TIES_GRID = (7, 7)

Probability = Callable[[Tensor], Tensor]
"""Normalized images (N, 3, H, W) to the probability (N,) of the explained class."""


@dataclass(frozen=True)
class Scores:
    """How faithful one map is.

    Attributes:
        deletion: area under the curve, in [0, 1]; lower is better.
        insertion: area under the curve, in [0, 1]; higher is better.
        drop_percent: lower is better.
        increase_percent: 0 or 100; higher is better.
        road: in [-0.5, 0.5]; higher is better, and a random map gets about 0.
    """

    deletion: float
    insertion: float
    drop_percent: float
    increase_percent: float
    road: float


def measure(probability: Probability, image: Tensor, black: Tensor, heatmap: Tensor) -> Scores:
    """Measure a map (h, w) of an image (3, H, W).

    Args:
        probability: of the class that the map explains.
        image: normalized.
        black: a black image, normalized.
        heatmap: in [0, 1]; resized bilinearly, as in the overlay.
    """
    resized = functional.interpolate(heatmap[None, None], image.shape[1:], mode="bilinear")[0, 0]  # (H, W)
    ranks = rank(resized)
    deletion = curve(probability, image, black, ranks)
    insertion = curve(probability, gaussian_blur(image, BLUR_PIXELS, BLUR_SIGMA), image, ranks)
    before, after = float(deletion[0]), float(probability((black + resized * (image - black))[None]))
    return Scores(
        deletion=area(deletion),
        insertion=area(insertion),
        drop_percent=drop_percent(before, after),
        increase_percent=increase_percent(before, after),
        road=road(probability, image, ranks),
    )


def rank(heatmap: Tensor) -> Tensor:
    """Return each pixel's rank (H, W), 0 where the map is highest.

    Served maps have many pixels of equal weight: without evidence for the class, a pixel is 0. A coarse noise, the same
    for every map, ranks these. Ranking them by rows would remove the image from one edge, and a noise of single pixels
    would shatter it.
    """
    height, width = heatmap.shape
    ties = uniform_noise(SEED, TIES_GRID)[None, None]
    resized = functional.interpolate(ties, (height, width), mode="bilinear")[0, 0]  # (H, W)
    order = np.lexsort((resized.flatten().numpy(), -heatmap.flatten().numpy()))  # (H·W,); the last key comes first
    ranks = torch.empty(len(order), dtype=torch.int64)
    ranks[torch.from_numpy(order)] = torch.arange(len(order))
    return ranks.reshape(height, width)


def curve(probability: Probability, start: Tensor, end: Tensor, ranks: Tensor) -> Tensor:
    """Return the probabilities (STEPS + 1,) while pixels of `end` replace those of `start`, in order of rank.

    From the image to black, this is deletion; from the blurred image to the image, insertion.

    Petsiuk et al. 2018, RISE, arXiv 1806.07421, section 4.2.
    """
    counts = torch.linspace(0, ranks.numel(), STEPS + 1).round()
    replaced = ranks < counts[:, None, None]  # (STEPS + 1, H, W)
    return probability(torch.where(replaced[:, None], end, start))


def area(probabilities: Tensor) -> float:
    """Return the area under a curve over [0, 1], by the trapezoidal rule."""
    return float(torch.trapezoid(probabilities, dx=1 / (len(probabilities) - 1)))


def drop_percent(before: float, after: float) -> float:
    """Return 100 · max(0, Y - O) / Y, with the probability Y of the image and O of the image multiplied by the map.

    Chattopadhay et al. 2018, Grad-CAM++, arXiv 1710.11063, section 5.1.1. (pytorch-grad-cam's
    `DropInConfidence` differs: it does not divide by Y, and multiplies the normalized image, which fades to gray.)
    """
    return 100 * max(0.0, before - after) / before


def increase_percent(before: float, after: float) -> float:
    """Return 100 if the probability is higher for the image multiplied by the map, else 0.

    Chattopadhay et al. 2018, Grad-CAM++, arXiv 1710.11063, section 5.1.1.
    """
    return 100.0 * (after > before)


def road(probability: Probability, image: Tensor, ranks: Tensor) -> float:
    """Return (LeRF - MoRF) / 2: the probability without the least relevant pixels minus that without the most relevant.

    Each is a mean over `ROAD_SHARES`; noisy linear imputation fills the removed pixels.

    Rong et al. 2022, arXiv 2202.00449. The combination of the two orders and the imputer are those of
    pytorch-grad-cam's `ROADCombined`. Its choice of pixels is not used: where more pixels have the same weight than
    should be removed, such as the zeros of a served map, its percentile removes too few pixels or the whole image.
    """
    count = ranks.numel()
    most = [ranks >= round(share * count) for share in ROAD_SHARES]
    least = [ranks < count - round(share * count) for share in ROAD_SHARES]
    imputer = NoisyLinearImputer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        imputed = torch.stack([imputer(image, kept.float()) for kept in (*most, *least)])  # (2·S, 3, H, W)
    morf, lerf = probability(imputed).reshape(2, -1).mean(dim=1)
    return float(lerf - morf) / 2
