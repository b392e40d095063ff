"""The command `scripts/diagram.py`: the diagram of the handler's modules in `docs/architecture.md`, from their imports.

Grimp, on which import-linter is built, reads the imports. An arrow that other arrows imply is left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence, Set

import grimp

from tools.paths import DOCS

PACKAGE = "gradcam"
PAGE = DOCS / "architecture.md"
BEGIN, END = "<!-- scripts/diagram.py writes this diagram. -->\n", "<!-- End of the diagram. -->\n"

Imports = Mapping[str, Set[str]]


def imports() -> dict[str, set[str]]:
    """Return which modules and packages of the handler each of them imports, without the prefix `gradcam.`."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    children = graph.find_children(PACKAGE)
    for child in children:
        graph.squash_module(child)
    return {
        child.rpartition(".")[2]: {
            name.rpartition(".")[2] for name in graph.find_modules_directly_imported_by(child) if name in children
        }
        for child in sorted(children)
    }


def reachable(start: str, edges: Imports) -> set[str]:
    """Return everything that a module imports directly or through others."""
    seen: set[str] = set()
    pending = list(edges[start])
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending.extend(edges[name])
    return seen


def reduced(edges: Imports) -> dict[str, set[str]]:
    """Return the imports that no other import implies; of packages in a circle, none implies the other."""
    return {
        name: {
            far
            for far in targets
            if not any(far in reachable(near, edges) and near not in reachable(far, edges) for near in targets)
        }
        for name, targets in edges.items()
    }


def mermaid(edges: Imports) -> str:
    """Render imports as a Mermaid flowchart."""
    arrows = [f"    {name} --> {target}\n" for name, targets in edges.items() for target in sorted(targets)]
    return f"```mermaid\nflowchart TD\n{''.join(arrows)}```\n"


def with_diagram(page: str) -> str:
    """Return the page with the present diagram between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{mermaid(reduced(imports()))}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    argparse.ArgumentParser(
        description="Write the diagram of the handler's modules to docs/architecture.md."
    ).parse_args(arguments)
    PAGE.write_text(with_diagram(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0
