"""The diagram in `docs/architecture.md` shows the imports."""

from __future__ import annotations

from tools import diagram


def test_the_page_has_the_present_diagram() -> None:
    page = diagram.PAGE.read_text(encoding="utf-8")
    assert page.count(diagram.BEGIN) == page.count(diagram.END) == 1
    assert page == diagram.with_diagram(page), "the diagram is stale: scripts/diagram.py"


def test_imports_through_others_are_left_out() -> None:
    edges = {"a": {"b", "c", "d"}, "b": {"c"}, "c": {"d"}, "d": set[str]()}
    assert diagram.reduced(edges) == {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": set()}
    circle = {"a": {"b", "c"}, "b": {"c"}, "c": {"b"}}
    assert diagram.reduced(circle) == circle
    assert diagram.mermaid({"a": {"c", "b"}}) == "```mermaid\nflowchart TD\n    a --> b\n    a --> c\n```\n"


def test_the_pipeline_is_above_all_packages() -> None:
    edges = diagram.imports()
    assert {"images", "split", "explain", "engines", "network", "errors"} <= diagram.reachable("pipeline", edges)
    assert edges["errors"] == set()
