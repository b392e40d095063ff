"""The application serves the page and its files."""

from __future__ import annotations

from starlette.testclient import TestClient


def test_the_page_and_its_modules(client: TestClient) -> None:
    assert '<script type="module" src="main.js">' in client.get("/").text
    assert client.get("/main.js").headers["content-type"].startswith(("text/javascript", "application/javascript"))
