"""A client library: send images to a model on a server, receive predictions and explanations.

    with Client("http://127.0.0.1:8080", "resnet18") as client:
        answer = client.explain(Path("cat.jpg").read_bytes(), targets=["tabby", 285], overlay="jpeg")
    print(answer.predictions[0].label, answer.explanations[0].peak)

It needs the package requests and nothing else. `tools.client.errors` lists the exceptions;
`tools.client.async_client` has the same client for asyncio.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

import requests
from urllib3.exceptions import MaxRetryError, NewConnectionError

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
from tools.sessions import open_session


class Client(Endpoint):
    """A model on a server.

    Connections are kept alive, requests are repeated while the server is overloaded or replaces a dead worker, and
    several threads may use one client. Close it, or use it as a context manager.
    """

    def _open(self, headers: Mapping[str, str], connections: int) -> None:
        self._session = open_session(self.url, connections)
        self._session.headers.update(headers)

    def __enter__(self) -> Client:
        """Return the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def explain(self, image: bytes, **options: OptionValue) -> Answer:
        """Classify and explain one image.

        Args:
            image: an image file of any supported format.
            **options: the request's options by name, such as `topk`, `targets` or `overlay` (docs/requests.md lists
                all). None leaves the choice to the server; `targets` and `layer` may be sequences.

        Raises:
            ImageRejected: the model's handler rejected the image or an option.
            ImageError: there is no usable response, and other images may have one.
            ServerUnavailable: no server answers, or it does not serve the model.
        """
        return self._answer(self._post(image, options_form(options)), options)

    def _post(self, image: bytes, form: Mapping[str, str]) -> requests.Response:
        timeout = (CONNECT_SECONDS, ANSWER_SECONDS)
        try:
            return self._session.post(self.endpoint, files=image_file(image), data=form, timeout=timeout)
        except requests.RequestException as error:
            if _is_unreachable(error):
                raise ServerUnavailable(f"No server answers at {self.url}") from error
            raise ImageError(_reason(error)) from error


def _is_unreachable(error: requests.RequestException) -> bool:
    """Return whether no server listens, as opposed to one that broke the connection."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    cause = error.args[0] if error.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)


def _reason(error: requests.RequestException) -> str:
    """Return one sentence for a request that had no response; the exception's own text names its internals."""
    cause = error.args[0] if error.args else None
    if isinstance(error, requests.Timeout) or "Read timed out" in str(getattr(cause, "reason", "")):
        return f"no answer from the server within {ANSWER_SECONDS} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "no answer from the server: its TLS certificate or protocol was not accepted"
    if isinstance(error, requests.exceptions.ProxyError):
        return "no answer from the server: the proxy failed"
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return "no answer from the server: it closed the connection"
    return f"no answer from the server: {type(error).__name__}"
