"""Requests of a test differ."""

from __future__ import annotations

from tools.load.synthetic import make_requests


def test_requests_differ() -> None:
    requests = make_requests(12, 12)

    assert len({(request.body, *request.headers.items()) for request in requests}) == 24
