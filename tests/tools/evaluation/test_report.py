"""The plot of the summaries."""

from __future__ import annotations

from tools.evaluation.measurement import MeasuredMap
from tools.evaluation.measures import Scores
from tools.evaluation.report import plot
from tools.evaluation.summary import summarize


def test_plot_has_a_panel_for_each_measure_and_names_every_layer() -> None:
    maps = [
        MeasuredMap("a", 0, "cat", 0.9, "gradcam", layer, Scores(0.1, 0.2, 3, 0, 0.5)) for layer in ("conv", "_head")
    ]
    figure = plot(summarize(maps))
    assert [panel.get_title().split(" (")[0] for panel in figure.axes] == [
        "Deletion",
        "Insertion",
        "Drop %",
        "Increase %",
        "ROAD",
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["at conv", "at _head"]
