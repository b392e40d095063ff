"""The page of a report: complete, and nothing but its own scripts runs in it."""

from __future__ import annotations

import re

from starlette.testclient import TestClient

from lens import report


def test_every_module_is_embedded_and_none_is_fetched() -> None:
    modules = report.modules()
    shared = {"card", "classes", "colormaps", "display", "dom", "figure", "heatmap", "legend", "methods", "overlay"}
    shared |= {"regions", "summary", "texts"}
    assert set(modules) == {"report", *shared}
    imported = {name for source in modules.values() for name in re.findall(r'from "(.*?)"', source)}
    assert imported == {f"lens/{name}" for name in set(modules) - {"report"}}
    page = report.page("m")
    assert not re.search(r'(?:src|href)="', page)


def test_only_its_own_scripts_run() -> None:
    page = report.page("m")
    (nonce,) = set(re.findall(r'nonce="(.*?)"', page))
    assert f"script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'" in page
    assert nonce not in report.page("m")
    assert page.index("Content-Security-Policy") < page.index("<script")


def test_the_page_is_delivered_as_json(client: TestClient) -> None:
    response = client.get("/api/reports/my%20model")
    assert response.headers["content-type"] == "application/json"
    page = response.json()["page"]
    assert page.count("<!-- entries -->") == 1
    assert '"model":"my model"' in page
