"""The table of the benchmark of methods."""

from __future__ import annotations

from rich.console import Console

from tools.benchmarks.contest import Comparison
from tools.benchmarks.implementations import OURS, PLAIN
from tools.benchmarks.method_results import table
from tools.benchmarks.timing import Ratio


def test_table() -> None:
    ratio = Ratio(1.2, 1.15, 1.3, 1.1)
    console = Console(width=150)
    with console.capture() as capture:
        console.print(table([Comparison("gradcam", 8, OURS, PLAIN, ratio)], "title"))
    (line,) = [line for line in capture.get().splitlines() if "gradcam" in line]
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells == ["gradcam", "8", f"{OURS} ÷ {PLAIN}", "1.200", "1.150 … 1.300", "1.100"]
