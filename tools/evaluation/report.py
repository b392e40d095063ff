"""Tables and a plot of the summaries: CSV files, a table for the terminal, a figure."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from tools.client.table import printable
from tools.evaluation.measurement import MeasuredMap
from tools.evaluation.summary import HIGHER_IS_BETTER, MEASURES, Estimate, Summary, best


def write_maps(path: Path, measured: Sequence[MeasuredMap]) -> None:
    """Write a line for each image, method, and layer."""
    header = [field.name for field in fields(MeasuredMap)][:-1] + list(MEASURES)
    _write_csv(path, header, ([*list(vars(entry).values())[:-1], *astuple(entry.scores)] for entry in measured))


def write_summary(path: Path, summaries: Sequence[Summary]) -> None:
    """Write a line for each method and layer: mean and standard error of each measure."""
    header = ["method", "layer", "pictures", *(name + suffix for name in MEASURES for suffix in ("", "_error"))]
    lines = (
        [summary.method, summary.layer, summary.images]
        + [value for name in MEASURES for value in asdict(summary.estimates[name]).values()]
        for summary in summaries
    )
    _write_csv(path, header, lines)


def _write_csv(path: Path, header: list[str], lines: Iterator[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([round(cell, 6) if isinstance(cell, float) else cell for cell in line] for line in lines)


def table(summaries: Sequence[Summary]) -> Table:
    """Return the summaries as a table with the best mean of each measure in bold."""
    drawn = Table("Layer", "Method", caption=f"Mean ± standard error over {summaries[0].images} images")
    for name in MEASURES:
        drawn.add_column(f"{title(name)} {'↑' if HIGHER_IS_BETTER[name] else '↓'}", justify="right")
    winners = {name: best(summaries, name) for name in MEASURES}
    for index, summary in enumerate(summaries):
        cells = (_cell(name, summary.estimates[name], winners[name]) for name in MEASURES)
        first = index == 0 or summaries[index - 1].layer != summary.layer
        if first:
            drawn.add_section()
        drawn.add_row(printable(summary.layer) if first else "", summary.method, *cells)
    return drawn


def title(name: str) -> str:
    """Return a measure's name for people to read."""
    return "ROAD" if name == "road" else name.replace("_percent", " %").capitalize()


def _cell(name: str, estimate: Estimate, winner: float) -> str:
    digits = 1 if name.endswith("percent") else 3
    text = f"{estimate.mean:.{digits}f} ± {estimate.error:.{digits}f}"
    return f"[bold]{text}[/bold]" if estimate.mean == winner else text


def plot(summaries: Sequence[Summary]) -> Figure:
    """Return a figure with a panel for each measure, a line for each method, and a color for each layer."""
    layers = list(dict.fromkeys(summary.layer for summary in summaries))
    methods = list(dict.fromkeys(summary.method for summary in summaries))
    figure = Figure(figsize=(16, 1.5 + 0.4 * len(methods)), layout="constrained")
    panels = figure.subplots(1, len(MEASURES), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, MEASURES, strict=True):
        for number, layer in enumerate(layers):
            points = [summary for summary in summaries if summary.layer == layer]
            shift = 0.2 * (number - (len(layers) - 1) / 2)
            panel.errorbar(
                x=[summary.estimates[name].mean for summary in points],
                y=[methods.index(summary.method) + shift for summary in points],
                xerr=[np.nan_to_num(summary.estimates[name].error) for summary in points],
                fmt="o",
                # Matplotlib omits names that begin with "_" from the legend.
                label=f"at {layer}",
            )
        panel.set_title(f"{title(name)} ({'higher' if HIGHER_IS_BETTER[name] else 'lower'} is better)", fontsize=10)
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(methods)), methods)
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(layers))
    return figure
