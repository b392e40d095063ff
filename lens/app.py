"""Serves the page, and passes its requests on to TorchServe: so no CORS is needed, and no token reaches a browser.

What goes wrong on the way is answered as the handler answers, `{"error": {"code": …, "message": …}}`:

    413 body_too_large         the browser sends more than is taken
    408 upload_timeout         it takes too long to send it
    403 cross_site             another site's page sends it
    502 server_unreachable     TorchServe is not there, or broke off
    502 answer_too_large       TorchServe's answer is larger than is passed on
    504 server_timeout         TorchServe takes too long
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lens.settings import Settings

STATIC = Path(__file__).parent / "static"
SAMPLE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
# Of the request's headers only these: TorchServe acts on some that the page has no use for, such as `describe`.
PASSED_HEADERS = ("content-type", "accept")
OPTION_PREFIX = "gradcam-"
# Of a model's description, what the page shows. The rest is for auditors.
DESCRIBED = ("labels", "methods", "layers", "method", "layer", "architecture")

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PassingError(Exception):
    """What went wrong between browser and TorchServe."""

    def __init__(self, status: int, code: str, message: str) -> None:
        """Keeps what the browser hears."""
        super().__init__(message)
        self.status = status
        self.code = code


def create_app(settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> Starlette:
    """Returns the application.

    Args:
        settings: of the server.
        transport: what reaches TorchServe; None: the network.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        timeout = httpx.Timeout(settings.answer_seconds, connect=settings.connect_seconds)
        # A proxy from the environment is of no use on the way to a neighbour.
        async with httpx.AsyncClient(timeout=timeout, transport=transport, trust_env=False) as client:
            app.state.torchserve = TorchServe(settings, client)
            yield

    return Starlette(
        routes=[
            Route("/api/overview", overview),
            Route("/api/models/{model}", describe),
            Route("/predictions/{model}", predict, methods=["POST"]),
            Route("/samples/{name}", sample),
            Route("/ping", ping),
            Route("/health", health),
            Mount("/", StaticFiles(directory=STATIC, html=True)),
        ],
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers={PassingError: refuse, HTTPException: refuse_http},
        lifespan=lifespan,
    )


# ----------------------------------------------------------------------------- TorchServe


class TorchServe:
    """The server behind this one."""

    def __init__(self, settings: Settings, client: httpx.AsyncClient) -> None:
        """Takes the client that reaches it."""
        self.settings = settings
        self._client = client

    async def ping(self) -> httpx.Response:
        """Asks whether it is there."""
        return await self._send("GET", f"{self.settings.inference}/ping", self.settings.inference_token)

    async def predict(self, model: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """Has a picture classified and explained."""
        url = f"{self.settings.inference}/predictions/{quote(model, safe='')}"
        return await self._send("POST", url, self.settings.inference_token, body, headers)

    async def models(self) -> list[str]:
        """Returns the names of the models that the page offers."""
        if self.settings.model_names:
            return self.settings.model_names
        names: list[str] = []
        page = ""
        while True:
            url = f"{self.settings.management}/models?limit=100{page}"
            listed = _document(await self._send("GET", url, self.settings.management_token))
            names += [str(model["modelName"]) for model in listed.get("models", [])]
            if "nextPageToken" not in listed:
                return names
            page = f"&next_page_token={quote(str(listed['nextPageToken']), safe='')}"

    async def describe(self, model: str) -> dict[str, Any]:
        """Returns what the page needs of a model's description, without what its handler does not say."""
        if not self.settings.management:
            return {}
        url = f"{self.settings.management}/models/{quote(model, safe='')}?customized=true"
        response = await self._send("GET", url, self.settings.management_token)
        versions = _document(response)
        said = versions[0].get("customizedMetadata") if isinstance(versions, list) and versions else None
        return {name: said[name] for name in DESCRIBED if name in said} if isinstance(said, dict) else {}

    async def _send(
        self, method: str, url: str, token: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Sends a request and reads the answer, as long as it is not too large.

        Raises:
            PassingError: there is no answer, or too much of it.
        """
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        request = self._client.build_request(method, url, content=body, headers={**(headers or {}), **authorization})
        try:
            response = await self._client.send(request, stream=True)
            try:
                content = await self._read(response)
            finally:
                await response.aclose()
        except httpx.TimeoutException as error:
            raise PassingError(504, "server_timeout", "TorchServe does not answer in time") from error
        except httpx.HTTPError as error:
            raise PassingError(502, "server_unreachable", "TorchServe does not answer: is it running?") from error
        plain = {name: value for name, value in response.headers.items() if name == "content-type"}
        return httpx.Response(response.status_code, headers=plain, content=content)

    async def _read(self, response: httpx.Response) -> bytes:
        content = bytearray()
        async for part in response.aiter_bytes():
            content += part
            if len(content) > self.settings.max_answer_bytes:
                most = f"{self.settings.max_answer_bytes:,}"
                raise PassingError(
                    502, "answer_too_large", f"TorchServe's answer has more than {most} bytes, the limit of this page"
                )
        return bytes(content)


def _document(response: httpx.Response) -> Any:
    """Reads an answer of the management API.

    Raises:
        PassingError: it is an error, in TorchServe's words, or not JSON.
    """
    try:
        said = response.json()
    except ValueError as error:
        raise PassingError(502, "server_unreachable", "TorchServe's management API does not answer in JSON") from error
    if response.is_error:
        message = str(said.get("message", response.status_code)) if isinstance(said, dict) else response.text
        raise PassingError(response.status_code, str(said.get("type", "")) if isinstance(said, dict) else "", message)
    return said


# ----------------------------------------------------------------------------- what the page asks for


async def overview(request: Request) -> Response:
    """Returns models, samples and the largest picture."""
    torchserve: TorchServe = request.app.state.torchserve
    said = {
        "models": await torchserve.models(),
        "samples": sorted(path.name for path in _samples(torchserve.settings)),
        "max_body_bytes": torchserve.settings.max_body_bytes,
    }
    return JSONResponse(said)


async def describe(request: Request) -> Response:
    """Returns labels, methods and layers of a model."""
    return JSONResponse(await request.app.state.torchserve.describe(_model(request)))


async def predict(request: Request) -> Response:
    """Passes a picture on, and the answer back."""
    torchserve: TorchServe = request.app.state.torchserve
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise PassingError(403, "cross_site", "pictures are taken from this page only")
    body = await _body(request, torchserve.settings)
    headers = {
        name: value
        for name, value in request.headers.items()
        if name in PASSED_HEADERS or name.startswith(OPTION_PREFIX)
    }
    return _passed(await torchserve.predict(_model(request), body, headers))


async def sample(request: Request) -> Response:
    """Returns a picture to try."""
    for path in _samples(request.app.state.torchserve.settings):
        if path.name == request.path_params["name"]:
            return FileResponse(path)
    raise HTTPException(404)


async def ping(request: Request) -> Response:
    """Tells whether TorchServe is there."""
    return _passed(await request.app.state.torchserve.ping())


async def health(request: Request) -> Response:
    """Tells that this server is there, for probes; it says nothing of TorchServe."""
    return JSONResponse({"status": "Healthy"})


async def refuse(request: Request, error: Exception) -> Response:
    """Answers with what went wrong."""
    assert isinstance(error, PassingError)
    # What is left of a request that was not read must not be taken for the next one.
    said = {"error": {"code": error.code, "message": str(error)}}
    return JSONResponse(said, status_code=error.status, headers={"Connection": "close"})


async def refuse_http(request: Request, error: Exception) -> Response:
    """Answers an address or a method that there is not, in the same form."""
    assert isinstance(error, HTTPException)
    said = {"error": {"code": "http_error", "message": error.detail}}
    return JSONResponse(said, status_code=error.status_code, headers=error.headers)


def _passed(response: httpx.Response) -> Response:
    kind = response.headers.get("content-type", "application/octet-stream")
    # An answer is data. Were it a page, it would be a page of this origin.
    kind = kind if kind.startswith(("application/json", "image/png", "image/jpeg")) else "text/plain"
    return Response(response.content, response.status_code, media_type=kind, headers={"Cache-Control": "no-store"})


def _model(request: Request) -> str:
    return str(request.path_params["model"])


def _samples(settings: Settings) -> list[Path]:
    folder = Path(settings.samples)
    if not settings.samples or not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.suffix.lower() in SAMPLE_SUFFIXES]


async def _body(request: Request, settings: Settings) -> bytes:
    """Reads a picture.

    Raises:
        PassingError: it is too large, or takes too long.
    """
    body = bytearray()
    length = request.headers.get("content-length", "0")
    too_large = PassingError(
        413, "body_too_large", f"the request has more than {settings.max_body_bytes:,} bytes, the limit of this page"
    )
    if length.isdecimal() and int(length) > settings.max_body_bytes:
        raise too_large
    try:
        with anyio.fail_after(settings.upload_seconds):
            async for part in request.stream():
                body += part
                if len(body) > settings.max_body_bytes:
                    raise too_large
    except TimeoutError as error:
        raise PassingError(
            408, "upload_timeout", f"the picture did not arrive in {settings.upload_seconds:g} s"
        ) from error
    except ClientDisconnect as error:
        raise PassingError(400, "client_gone", "the request broke off") from error
    return bytes(body)


class SecurityHeaders:
    """Adds to every answer what a browser may do with it: nothing from elsewhere, nothing inline."""

    def __init__(self, app: ASGIApp) -> None:
        """Wraps an application."""
        self._app = app
        self._headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        await self._app(scope, receive, self._adding(send))

    def _adding(self, send: Send) -> Callable[[Message], Awaitable[None]]:
        async def added(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *self._headers]}
            await send(message)

        return added
