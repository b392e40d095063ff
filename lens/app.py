"""The application: serves the page and passes its requests on to TorchServe.

The page needs no CORS, since it and TorchServe have one origin for the browser, and tokens stay on the server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from lens import endpoints
from lens.errors import ProxyError, http_error_response, proxy_error_response
from lens.headers import SecurityHeaders
from lens.settings import Settings
from lens.torchserve import TorchServe

STATIC = Path(__file__).parent / "static"


def create_app(settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> Starlette:
    """Return the application.

    Args:
        settings: of the server.
        transport: that sends requests to TorchServe; None: over the network.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        timeout = httpx.Timeout(settings.answer_seconds, connect=settings.connect_seconds)
        # TorchServe is on this machine or a neighbor: a proxy from the environment must not be used.
        async with httpx.AsyncClient(timeout=timeout, transport=transport, trust_env=False) as client:
            app.state.torchserve = TorchServe(settings, client)
            yield

    return Starlette(
        routes=[
            Route("/api/overview", endpoints.overview),
            Route("/api/models/{model}", endpoints.describe),
            Route("/api/reports/{model}", endpoints.report_page),
            Route("/predictions/{model}", endpoints.predict, methods=["POST"]),
            Route("/samples/{name}", endpoints.sample),
            Route("/ping", endpoints.ping),
            Route("/health", endpoints.health),
            Mount("/", StaticFiles(directory=STATIC, html=True)),
        ],
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers={ProxyError: proxy_error_response, HTTPException: http_error_response},
        lifespan=lifespan,
    )
