"""Client of TorchServe's inference and management APIs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from lens.errors import ProxyError
from lens.settings import Settings

# The fields of a model's description that the page shows; the others, such as limits, concern its operator.
DESCRIPTION_FIELDS = (
    "labels",
    "methods",
    "layers",
    "method",
    "layer",
    "architecture",
    "num_classes",
    "activation",
    "weights",
    "weights_sha256",
    "input_size",
    "transform",
    "resize_size",
    "interpolation",
    "mean",
    "std",
    "engine",
    "precision",
    "effective_precision",
    "calibration_images",
    "held_back_images",
    "agreement",
    "cosine_median",
    "cosine_worst",
    "device",
)


class TorchServe:
    """The TorchServe behind this server."""

    def __init__(self, settings: Settings, client: httpx.AsyncClient) -> None:
        """Store the addresses, tokens, and limits, and the HTTP client that is used."""
        self.settings = settings
        self._client = client

    async def ping(self) -> httpx.Response:
        """Return the response of TorchServe's health check."""
        return await self._send("GET", f"{self.settings.inference}/ping", self.settings.inference_token)

    async def predict(self, model: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """Have an image classified and explained."""
        url = f"{self.settings.inference}/predictions/{quote(model, safe='')}"
        return await self._send("POST", url, self.settings.inference_token, body, headers)

    async def models(self) -> list[str]:
        """Return the names of the models that the page offers."""
        if self.settings.model_names:
            return self.settings.model_names
        names: list[str] = []
        page = ""
        while True:
            url = f"{self.settings.management}/models?limit=100{page}"
            listing = _document(await self._send("GET", url, self.settings.management_token))
            names += [str(model["modelName"]) for model in listing.get("models", [])]
            if "nextPageToken" not in listing:
                return names
            page = f"&next_page_token={quote(str(listing['nextPageToken']), safe='')}"

    async def describe(self, model: str) -> dict[str, Any]:
        """Return the description of a model: those of DESCRIPTION_FIELDS that its handler provides."""
        if not self.settings.management:
            return {}
        url = f"{self.settings.management}/models/{quote(model, safe='')}?customized=true"
        versions = _document(await self._send("GET", url, self.settings.management_token))
        metadata = versions[0].get("customizedMetadata") if isinstance(versions, list) and versions else None
        if not isinstance(metadata, dict):
            return {}
        return {name: metadata[name] for name in DESCRIPTION_FIELDS if name in metadata}

    async def _send(
        self, method: str, url: str, token: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Send a request and return the response with its content type as the only header.

        Raises:
            ProxyError: there is no response, or it exceeds the limit.
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
            raise ProxyError(504, "server_timeout", "TorchServe did not respond in time") from error
        except httpx.HTTPError as error:
            raise ProxyError(502, "server_unreachable", "TorchServe does not respond; is it running?") from error
        content_type = {name: value for name, value in response.headers.items() if name == "content-type"}
        return httpx.Response(response.status_code, headers=content_type, content=content)

    async def _read(self, response: httpx.Response) -> bytes:
        content = bytearray()
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > self.settings.max_answer_bytes:
                limit = f"{self.settings.max_answer_bytes:,}"
                raise ProxyError(
                    502, "answer_too_large", f"TorchServe's response exceeds {limit} bytes, the limit of this page"
                )
        return bytes(content)


def _document(response: httpx.Response) -> Any:
    """Parse a response of the management API.

    Raises:
        ProxyError: the response is an error, passed on with TorchServe's message, or not JSON.
    """
    try:
        document = response.json()
    except ValueError as error:
        raise ProxyError(502, "server_unreachable", "TorchServe's management API did not respond with JSON") from error
    if response.is_error:
        fields = document if isinstance(document, dict) else {"message": response.text}
        message = str(fields.get("message", response.status_code))
        raise ProxyError(response.status_code, str(fields.get("type", "")), message)
    return document
