"""When sessions use a proxy from the environment."""

from __future__ import annotations

import pytest

from tools.sessions import MAX_CONNECTIONS, RETRIES, loopback_session, open_session


@pytest.mark.parametrize(
    ("url", "proxies"),
    [
        ("http://127.0.0.1:8080", False),
        ("http://[::1]:8080", False),
        ("http://localhost", False),
        ("https://example.org", True),
        ("http://127.0.0.1.example.org", True),
    ],
)
def test_loopback_is_never_reached_through_a_proxy(url: str, proxies: bool) -> None:
    with open_session(url) as session:
        assert session.trust_env is proxies


def test_loopback_session_neither_uses_proxies_nor_retries() -> None:
    with loopback_session() as session:
        assert session.trust_env is False
        assert session.get_adapter("http://127.0.0.1").max_retries.total == 0  # type: ignore[attr-defined]


def test_overloaded_servers_are_retried() -> None:
    with open_session("http://127.0.0.1") as session:
        adapter = session.get_adapter("http://127.0.0.1")
        assert adapter.max_retries is RETRIES  # type: ignore[attr-defined]
        assert adapter._pool_maxsize == MAX_CONNECTIONS  # type: ignore[attr-defined]
