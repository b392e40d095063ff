"""The image at the top of the README."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tools.lens.example_figure import HEIGHT, MARGIN, Panel, caption, compose


def test_a_caption_names_the_predicted_class_and_the_strength() -> None:
    explanation = {"label": "Egyptian cat", "probability": 0.820582, "strength": 0.529354}
    document = {"explanations": [explanation], "method": "gradcam", "model": {"name": "lite"}}
    assert caption(document) == ("Egyptian cat 82.1%", "strength 0.529  ·  gradcam, lite")


def test_panels_stand_side_by_side_above_their_captions() -> None:
    colors = ((255, 0, 0), (0, 0, 255))
    panels = [Panel(Image.new("RGB", (2 * HEIGHT, HEIGHT), color), "title", "text") for color in colors]

    figure = np.asarray(compose(panels))

    assert figure.shape[1] == 4 * HEIGHT + MARGIN
    assert (figure[:HEIGHT, : 2 * HEIGHT] == colors[0]).all()
    assert (figure[:HEIGHT, 2 * HEIGHT + MARGIN :] == colors[1]).all()
    below = figure[HEIGHT:]
    for part in (below[:, : 2 * HEIGHT], below[:, 2 * HEIGHT :]):
        assert part.min() < 60, "the caption is dark"
