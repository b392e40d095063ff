"""Waiting for what a server does in its own time."""

from __future__ import annotations

from collections.abc import Callable

from tools.server.server import poll


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition.

    Raises:
        AssertionError: it was still false after so many seconds.
    """
    assert poll(condition, seconds), f"not true within {seconds:g} s"
