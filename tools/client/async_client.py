"""The client for asyncio: the same requests, answers and errors as `tools.client.client`.

    async with AsyncClient("http://127.0.0.1:8080", "resnet18") as client:
        answers = await asyncio.gather(*(client.explain(image) for image in images))

It needs the packages httpx and requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType

import httpx

from tools.client.answers import Answer
from tools.client.endpoint import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    Endpoint,
    OptionValue,
    image_file,
    options_form,
)
from tools.client.errors import ImageError, ServerUnavailable
from tools.sessions import BACKOFF_SECONDS, TEMPORARY_STATUSES


class AsyncClient(Endpoint):
    """A model on a server, for asyncio.

    At most `connections` requests are under way, so that any number of calls may be awaited together. Requests are
    repeated as by `Client`. Close the client, or use it as an asynchronous context manager.
    """

    def _open(self, headers: Mapping[str, str], connections: int) -> None:
        self._free = asyncio.Semaphore(connections)
        self._http = httpx.AsyncClient(
            headers={"Accept": "application/json", **headers},
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=connections),
            trust_env=not self.is_loopback,
        )

    async def __aenter__(self) -> AsyncClient:
        """Return the client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def explain(self, image: bytes, **options: OptionValue) -> Answer:
        """Classify and explain one image; arguments and exceptions are those of `Client.explain`."""
        async with self._free:
            response = await self._post(image, options_form(options))
        return self._answer(response, options)

    async def _post(self, image: bytes, form: Mapping[str, str]) -> httpx.Response:
        """Send a request until its response is not a temporary failure, or for the last time."""
        broken = False
        for pause in (*BACKOFF_SECONDS, None):
            try:
                response = await self._http.post(self.endpoint, files=image_file(image), data=form)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                raise ServerUnavailable(f"No server answers at {self.url}") from error
            except httpx.TransportError as error:
                # Once only: the server may have closed an idle connection, or stopped.
                if broken or isinstance(error, httpx.TimeoutException) or pause is None:
                    raise ImageError(_reason(error)) from error
                broken = True
                continue
            if response.status_code not in TEMPORARY_STATUSES or pause is None:
                return response
            await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")


def _reason(error: httpx.TransportError) -> str:
    """Return one sentence for a request that had no response."""
    if isinstance(error, httpx.TimeoutException):
        return f"no answer from the server within {ANSWER_SECONDS} s"
    if isinstance(error, httpx.ProxyError):
        return "no answer from the server: the proxy failed"
    return "no answer from the server: it closed the connection"
