"""Endpoints: what the page requests from this server."""

from __future__ import annotations

from pathlib import Path

import anyio
import httpx
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response

from lens import report
from lens.errors import ProxyError
from lens.settings import Settings
from lens.torchserve import TorchServe

SAMPLE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
# No other request headers are passed on: TorchServe acts on some that the page does not need, such as `describe`.
PASSED_HEADERS = ("content-type", "accept")
OPTION_PREFIX = "gradcam-"
# Any other content type is passed on as text, so that a browser never renders a response as a page of this origin.
PASSED_CONTENT_TYPES = ("application/json", "image/png", "image/jpeg")


async def overview(request: Request) -> Response:
    """Return the models, the samples, and the size limit of a request."""
    torchserve = _torchserve(request)
    document = {
        "models": await torchserve.models(),
        "samples": sorted(path.name for path in _samples(torchserve.settings)),
        "max_body_bytes": torchserve.settings.max_body_bytes,
    }
    return JSONResponse(document)


async def describe(request: Request) -> Response:
    """Return labels, methods, and layers of a model."""
    return JSONResponse(await _torchserve(request).describe(_model(request)))


async def report_page(request: Request) -> Response:
    """Return the page of a report without entries; as JSON, so that a browser does not run it in this origin."""
    return JSONResponse({"page": report.page(_model(request))})


async def predict(request: Request) -> Response:
    """Pass an image on to TorchServe, and the response back."""
    torchserve = _torchserve(request)
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise ProxyError(403, "cross_site", "Images are accepted from this page only, not from other sites")
    body = await _body(request, torchserve.settings)
    headers = {
        name: value
        for name, value in request.headers.items()
        if name in PASSED_HEADERS or name.startswith(OPTION_PREFIX)
    }
    return _passed(await torchserve.predict(_model(request), body, headers))


async def sample(request: Request) -> Response:
    """Return a sample image."""
    for path in _samples(_torchserve(request).settings):
        if path.name == request.path_params["name"]:
            return FileResponse(path)
    raise HTTPException(404)


async def ping(request: Request) -> Response:
    """Report whether TorchServe responds."""
    return _passed(await _torchserve(request).ping())


async def health(request: Request) -> Response:
    """Report that this server responds, for probes; TorchServe's state does not matter."""
    return JSONResponse({"status": "Healthy"})


def _torchserve(request: Request) -> TorchServe:
    torchserve: TorchServe = request.app.state.torchserve
    return torchserve


def _model(request: Request) -> str:
    return str(request.path_params["model"])


def _samples(settings: Settings) -> list[Path]:
    folder = Path(settings.samples)
    if not settings.samples or not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.suffix.lower() in SAMPLE_SUFFIXES]


def _passed(response: httpx.Response) -> Response:
    content_type = response.headers.get("content-type", "application/octet-stream")
    if not content_type.startswith(PASSED_CONTENT_TYPES):
        content_type = "text/plain"
    headers = {"Cache-Control": "no-store"}
    return Response(response.content, response.status_code, media_type=content_type, headers=headers)


async def _body(request: Request, settings: Settings) -> bytes:
    """Read the body of a request.

    Raises:
        ProxyError: the body exceeds the limit, arrives too slowly, or is incomplete.
    """
    body = bytearray()
    length = request.headers.get("content-length", "0")
    too_large = ProxyError(
        413, "body_too_large", f"The request exceeds {settings.max_body_bytes:,} bytes, the limit of this page"
    )
    if length.isdecimal() and int(length) > settings.max_body_bytes:
        raise too_large
    try:
        with anyio.fail_after(settings.upload_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > settings.max_body_bytes:
                    raise too_large
    except TimeoutError as error:
        raise ProxyError(
            408, "upload_timeout", f"The image did not arrive within {settings.upload_seconds:g} s"
        ) from error
    except ClientDisconnect as error:
        raise ProxyError(400, "client_gone", "The client disconnected before the request was complete") from error
    return bytes(body)
