"""Every response has the security headers."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient


@pytest.mark.parametrize("path", ["/", "/main.js", "/samples/chelsea.jpg", "/ping", "/health", "/nothing"])
def test_nothing_may_be_loaded_from_other_sites(client: TestClient, path: str) -> None:
    policy = dict(part.split(" ", 1) for part in client.get(path).headers["content-security-policy"].split("; "))

    assert policy["default-src"] == "'none'"
    assert set(policy.values()) == {"'none'", "'self'"}
