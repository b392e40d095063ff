"""TorchServe's settings for requests from web pages of another origin (CORS)."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from gradcam.options import PARSERS
from tools.server.errors import ServerError

METHODS = "GET, POST, PUT, OPTIONS"
# A page needs permission for each header that it sends, options among them.
HEADERS = ", ".join(["Content-Type", "Authorization", *(f"Gradcam-{name.capitalize()}" for name in PARSERS)])


def cors_properties(origin: str) -> dict[str, str]:
    """Return the properties that let pages of an origin call the server.

    Args:
        origin: `https://HOST[:PORT]` as browsers send it, or `*` for every page.

    Raises:
        ServerError: it is not an origin.
    """
    parts = urlsplit(origin)
    is_origin = parts.scheme in {"http", "https"} and re.fullmatch(r"[\w.:\[\]-]+", parts.netloc, re.ASCII)
    if origin != "*" and (not is_origin or origin != f"{parts.scheme}://{parts.netloc}"):
        raise ServerError(f"CORS origin must be '*' or like https://app.example:8443, without a path; got {origin!r}")
    return {"cors_allowed_origin": origin, "cors_allowed_methods": METHODS, "cors_allowed_headers": HEADERS}
