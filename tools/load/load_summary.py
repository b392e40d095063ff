"""Print the result of a load test, and compare it with the limits."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tools.client.table import printable
from tools.load.plan import LoadResult

COLUMNS = ("requests", "errors", "per second", "median", "p95", "p99", "slowest")


def exceeded_limits(result: LoadResult, max_p95: float, max_error_rate: float) -> list[str]:
    """Return why the test failed, one line per reason."""
    total = result.total
    reasons = list(result.failures)
    if not total.requests:
        reasons.append("no request was answered")
    if total.p95 > max_p95:
        reasons.append(f"p95 {total.p95:.0f} ms is over --max-p95 {max_p95:g} ms")
    if total.errors > max_error_rate * total.requests:
        reasons.append(
            f"error rate {total.error_rate:.2%} ({total.errors} of {total.requests}) "
            f"is over --max-error-rate {max_error_rate:.2%}"
        )
    return reasons


def show(result: LoadResult, console: Console) -> None:
    """Print statistics and errors."""
    table = Table("", *COLUMNS, caption="times in milliseconds")
    for groups in (result.protocols, result.options, (result.total,)):
        for group in groups:
            times = (group.median, group.p95, group.p99, group.slowest)
            table.add_row(
                group.name,
                str(group.requests),
                str(group.errors),
                f"{group.per_second:.1f}",
                *(f"{time:.0f}" for time in times),
            )
        table.add_section()
    console.print(table)
    for problem in sorted(result.problems, key=lambda entry: -entry.count):
        console.print(printable(f"{problem.count} × {problem.name}: {problem.message}"), markup=False, highlight=False)
