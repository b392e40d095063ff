"""Errors between browser and TorchServe, in the handler's format, `{"error": {"code": …, "message": …}}`.

    400 client_gone            the browser disconnected before its request was complete
    403 cross_site             the request comes from a page of another site
    408 upload_timeout         the browser sends its request too slowly
    413 body_too_large         the request is larger than the limit
    502 answer_too_large       TorchServe's response is larger than the limit
    502 server_unreachable     TorchServe cannot be reached, or breaks the connection
    504 server_timeout         TorchServe responds too slowly

An unknown path or method is `http_error`. Errors of TorchServe itself are passed on unchanged.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response


class ProxyError(Exception):
    """A request that this server rejects, or that TorchServe does not answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        """Store HTTP status, error code, and message of the response."""
        super().__init__(message)
        self.status = status
        self.code = code


async def proxy_error_response(request: Request, error: Exception) -> Response:
    """Return the response for a ProxyError."""
    assert isinstance(error, ProxyError)
    # Part of the request body may be unread; on a reused connection it would be parsed as the next request.
    return _error_response(error.status, error.code, str(error), {"Connection": "close"})


async def http_error_response(request: Request, error: Exception) -> Response:
    """Return the response for an unknown path or method."""
    assert isinstance(error, HTTPException)
    return _error_response(error.status_code, "http_error", error.detail, dict(error.headers or {}))


def _error_response(status: int, code: str, message: str, headers: dict[str, str]) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=status, headers=headers)
