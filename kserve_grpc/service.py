"""Methods of V2's gRPC service, answered over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import grpc
from google.protobuf import json_format

from kserve_grpc.http_api import HttpApi, Response, Unavailable
from kserve_grpc.messages import MESSAGES, SERVICE
from kserve_grpc.translation import LENGTH_HEADER, InvalidCall, from_http, to_http

# Concurrent calls; more fail with RESOURCE_EXHAUSTED. TorchServe queues 100 requests per model.
MAX_CALLS = 128
# TorchServe's max_request_size and max_response_size, which include the JSON that gRPC lacks.
MAX_MESSAGE_BYTES = 64 * 2**20
OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A second server must not share the port.
    ("grpc.so_reuseport", 0),
]
CODES = {
    **dict.fromkeys((400, 413, 415, 422), grpc.StatusCode.INVALID_ARGUMENT),
    401: grpc.StatusCode.UNAUTHENTICATED,
    404: grpc.StatusCode.NOT_FOUND,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


@dataclass(frozen=True)
class Service:
    """The service's methods; each takes a request message and the call's context."""

    torchserve: HttpApi
    """TorchServe's inference API. Inferences go there directly, so that they survive the proxy's graceful stop."""
    proxy: HttpApi
    """The proxy, which knows what TorchServe does not say: readiness and metadata."""

    def server_live(self, _: Any, context: Any) -> Any:
        """Tell whether TorchServe responds."""
        self._state("/v2/health/live", context)
        return MESSAGES["ServerLiveResponse"](live=True)

    def server_ready(self, _: Any, context: Any) -> Any:
        """Tell whether the model of the image has a ready worker."""
        response = self._get("/v2/health/ready", context)
        return MESSAGES["ServerReadyResponse"](ready=response.status == 200)

    def model_ready(self, request: Any, context: Any) -> Any:
        """Tell whether a model has a ready worker; a call for an unknown model fails."""
        response = self._get(f"{_state_path(request)}/ready", context)
        if response.status != 200 and _code(response) != "not_ready":
            _abort(response, context)
        return MESSAGES["ModelReadyResponse"](ready=response.status == 200)

    def server_metadata(self, _: Any, context: Any) -> Any:
        """Return the server's name, version and extensions."""
        return _parsed(self._state("/v2", context), "ServerMetadataResponse")

    def model_metadata(self, request: Any, context: Any) -> Any:
        """Return a model's versions and tensors."""
        return _parsed(self._state(_state_path(request), context), "ModelMetadataResponse")

    def model_infer(self, request: Any, context: Any) -> Any:
        """Explain the images of a request."""
        try:
            body, headers = to_http(request)
        except InvalidCall as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        name, version = quote(request.model_name, safe=""), quote(request.model_version, safe="")
        # TorchServe has no versions in V2's paths. The handler detects V2 from the body at any path.
        path = f"/predictions/{name}/{version}" if version else f"/v2/models/{name}/infer"
        headers |= _authorization(context)
        seconds = context.time_remaining()
        response = _answer(lambda: self.torchserve.request("POST", path, seconds, body, headers), context)
        if response.status != 200:
            _abort(response, context)
        # Without any tensor the response is JSON only.
        return from_http(response.body, int(response.headers.get(LENGTH_HEADER, len(response.body))))

    def _state(self, path: str, context: Any) -> Response:
        """Return the proxy's successful response."""
        response = self._get(path, context)
        if response.status != 200:
            _abort(response, context)
        return response

    def _get(self, path: str, context: Any) -> Response:
        headers = _authorization(context)
        return _answer(lambda: self.proxy.request("GET", path, context.time_remaining(), headers=headers), context)


def _answer(request: Callable[[], Response], context: Any) -> Response:
    """Return the response to an HTTP request, or end the call."""
    try:
        return request()
    except TimeoutError:
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "TorchServe sent no response in time")
    except Unavailable as error:
        context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
    raise AssertionError("`abort` raises")


def _abort(response: Response, context: Any) -> None:
    """End the call with the error of an HTTP response: the handler's, the proxy's, or TorchServe's."""
    document = response.document if isinstance(response.document, dict) else {}
    message = document.get("error") or document.get("message") or f"TorchServe returned HTTP status {response.status}"
    context.abort(CODES.get(response.status, grpc.StatusCode.INTERNAL), str(message))


def _authorization(context: Any) -> dict[str, str]:
    """Return the client's token, if it sent one, as TorchServe expects it."""
    return {name: value for name, value in context.invocation_metadata() if name == "authorization"}


def _code(response: Response) -> Any:
    return response.document.get("code") if isinstance(response.document, dict) else None


def _state_path(request: Any) -> str:
    version = f"/versions/{quote(request.version, safe='')}" if request.version else ""
    return f"/v2/models/{quote(request.name, safe='')}{version}"


def _parsed(response: Response, name: str) -> Any:
    return json_format.ParseDict(response.document, MESSAGES[name](), ignore_unknown_fields=True)


def create_server(address: str, service: Service) -> tuple[Any, int]:
    """Return a gRPC server that is not started yet, and its port.

    Args:
        address: `host:port`; port 0 is any free one.
        service: what it serves.

    Raises:
        RuntimeError: the address is in use.
    """
    methods = {
        "ServerLive": service.server_live,
        "ServerReady": service.server_ready,
        "ModelReady": service.model_ready,
        "ServerMetadata": service.server_metadata,
        "ModelMetadata": service.model_metadata,
        "ModelInfer": service.model_infer,
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            method,
            request_deserializer=MESSAGES[f"{name}Request"].FromString,
            response_serializer=MESSAGES[f"{name}Response"].SerializeToString,
        )
        for name, method in methods.items()
    }
    server = grpc.server(ThreadPoolExecutor(MAX_CALLS), options=OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    return server, server.add_insecure_port(address)
