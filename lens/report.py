"""The page of a report: one HTML file without entries, built from the modules in `static/`.

The modules are embedded as data URLs in an import map, which a page opened from disk may load, unlike files; only the
names in their import statements change. `<!-- entries -->` marks where the entries belong: script elements of the
class `entry` or `error` with JSON.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

STATIC = Path(__file__).parent / "static"
MAIN = "report"
STYLES = ("style.css", "report.css")
LANGUAGES = ("en", "de")
IMPORT = re.compile(r'(?<=from ")\./(\w+)\.js(?=")')


def page(model: str) -> str:
    """Return the page of a report on images that a model explains, with a mark for the entries."""
    nonce = secrets.token_urlsafe(18)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    imports = {f"lens/{name}": data_url("text/javascript", source.encode()) for name, source in modules().items()}
    styles = "".join((STATIC / name).read_text(encoding="utf-8") for name in STYLES)
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<style nonce="{nonce}">{styles}</style>\n'
        f'<script type="importmap" nonce="{nonce}">{to_json({"imports": imports})}</script>\n'
        f'<script type="module" nonce="{nonce}">import "lens/{MAIN}";</script>\n'
    )
    texts = {name: json.loads((STATIC / "texts" / f"{name}.json").read_text("utf-8")) for name in LANGUAGES}
    about = {"model": model, "time": datetime.now(timezone.utc).isoformat(timespec="seconds"), "texts": texts}
    template = (STATIC / "report.html").read_text(encoding="utf-8")
    return template.replace("<!-- head -->", head).replace(
        "<!-- entries -->", f'<script type="application/json" id="about">{to_json(about)}</script>\n<!-- entries -->'
    )


def modules() -> dict[str, str]:
    """Return the report's module and all that it imports, with names as in the import map."""
    sources: dict[str, str] = {}
    waiting = [MAIN]
    while waiting:
        name = waiting.pop()
        source = (STATIC / f"{name}.js").read_text(encoding="utf-8")
        waiting += [other for other in IMPORT.findall(source) if other not in sources]
        sources[name] = IMPORT.sub(r"lens/\1", source)
    return sources


def to_json(value: Any) -> str:
    """Return JSON that cannot end a script element: names and labels may be anybody's."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def data_url(kind: str, content: bytes) -> str:
    """Return content as a data URL of a media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
