"""Errors from TorchServe itself are told apart from the handler's."""

from __future__ import annotations

import pytest

from tools.load.answer import torchserve_error


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"code": 507, "type": "Internal", "message": "Worker died."}', ("Internal", "Worker died.")),
        ("<html>", ("without JSON", "<html>")),
        ('{"error": {"code": "unknown_class", "message": "…"}}', None),
    ],
)
def test_torchserve_error(text: str, error: tuple[str, str] | None) -> None:
    assert torchserve_error(text) == error
