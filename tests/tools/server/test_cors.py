"""The properties behind `serve.py --cors`; tests/server/test_cors.py has browsers' requests."""

from __future__ import annotations

import pytest

from gradcam.options import PARSERS
from tools.server.cors import cors_properties
from tools.server.errors import ServerError


@pytest.mark.parametrize("origin", ["https://app.example", "http://localhost:3000", "*"])
def test_every_option_may_be_a_header(origin: str) -> None:
    properties = cors_properties(origin)
    assert properties["cors_allowed_origin"] == origin
    assert {f"Gradcam-{name}".lower() for name in PARSERS} <= set(
        properties["cors_allowed_headers"].lower().split(", ")
    )


@pytest.mark.parametrize(
    "origin", ["", "app.example", "https://app.example/", "https://a.example, *", "ftp://a", "null"]
)
def test_what_is_no_origin(origin: str) -> None:
    with pytest.raises(ServerError, match="CORS origin must be"):
        cors_properties(origin)
