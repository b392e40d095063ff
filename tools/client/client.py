"""A client library: send images to a model on a server, receive predictions and explanations.

    with Client("http://127.0.0.1:8080", "resnet18") as client:
        answer = client.explain(Path("cat.jpg").read_bytes(), targets=["tabby", 285], overlay="jpeg")
    print(answer.predictions[0].label, answer.explanations[0].peak)

It needs the package requests and nothing else. `tools.client.errors` lists the exceptions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from urllib.parse import quote

import requests
from urllib3.exceptions import MaxRetryError, NewConnectionError

from tools.client.answers import Answer, invalid_response, parse_answer, response_error
from tools.client.errors import ImageError, ModelNotFound, ServerUnavailable
from tools.ports import INFERENCE_URL
from tools.sessions import MAX_CONNECTIONS, open_session

DEFAULT_MODEL = "resnet18"
CONNECT_SECONDS, ANSWER_SECONDS = 5, 120

OptionValue = str | int | float | bool | Sequence[int | str] | None


class Client:
    """A model on a server.

    Connections are kept alive, requests are repeated while the server is overloaded or replaces a dead worker, and
    several threads may use one client. Close it, or use it as a context manager.

    Attributes:
        url: root of the server's inference API.
        model: name of the model.
        version: of the model; None: the server's default version.
    """

    def __init__(
        self,
        url: str = INFERENCE_URL,
        model: str = DEFAULT_MODEL,
        *,
        version: str | None = None,
        headers: Mapping[str, str] | None = None,
        connections: int = MAX_CONNECTIONS,
    ) -> None:
        """Describe a client; it connects with the first request.

        Args:
            url: root of the inference API, which may have a path, as behind a proxy.
            model: name of the model.
            version: of the model; None: the server's default version.
            headers: sent with every request, such as `{"Authorization": "Bearer …"}`.
            connections: how many to keep open at most.
        """
        self.url = url.rstrip("/")
        self.model = model
        self.version = version
        self._session = open_session(url, connections)
        self._session.headers.update(headers or {})

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

    @property
    def endpoint(self) -> str:
        """The address that takes images."""
        names = [self.model] if self.version is None else [self.model, self.version]
        return "/".join([f"{self.url}/predictions", *(quote(name, safe="") for name in names)])

    def explain(self, image: bytes, **options: OptionValue) -> Answer:
        """Classify and explain one image.

        Args:
            image: an image file of any supported format.
            **options: the request's options by name (docs/requests.md): `topk`, `targets`, `explain`, `method`,
                `layer`, `smooth`, `heatmap`, `overlay`, `colormap`, `alpha`. None leaves the choice to the server;
                `targets` and `layer` may be sequences.

        Raises:
            ImageRejected: the model's handler rejected the image or an option.
            ImageError: there is no usable response, and other images may have one.
            ServerUnavailable: no server answers, or it does not serve the model.
        """
        response = self._post(image, options_form(options))
        if response.status_code == requests.codes.not_found:
            raise ModelNotFound(f"{self.url} has no model {self._name!r} ({response_error(response)})")
        answer = parse_answer(response)
        if options.get("overlay", "none") not in {None, "none"} and any(
            explanation.overlay is None for explanation in answer.explanations
        ):
            raise invalid_response(response)
        return answer

    @property
    def _name(self) -> str:
        return self.model if self.version is None else f"{self.model}/{self.version}"

    def _post(self, image: bytes, form: Mapping[str, str]) -> requests.Response:
        """Send an image as a multipart form: unlike headers, its fields may carry labels in any script."""
        # A constant name for the part: a file's own name might hold what a multipart header cannot.
        files = {"data": ("image", image, "application/octet-stream")}
        try:
            return self._session.post(self.endpoint, files=files, data=form, timeout=(CONNECT_SECONDS, ANSWER_SECONDS))
        except requests.RequestException as error:
            if _is_unreachable(error):
                raise ServerUnavailable(f"No server answers at {self.url}") from error
            raise ImageError(f"no answer from the server: {error}") from error


def options_form(options: Mapping[str, OptionValue]) -> dict[str, str]:
    """Return options as the fields of a form; those that are None are left out."""
    return {name: _option_text(name, value) for name, value in options.items() if value is not None}


def quote_label(label: str) -> str:
    """Return a label in double quotes, as one entry of the option `targets`."""
    return '"' + label.replace('"', '""') + '"'


def _option_text(name: str, value: OptionValue) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, Sequence):
        return str(value)
    return ",".join(
        quote_label(entry) if name == "targets" and isinstance(entry, str) else str(entry) for entry in value
    )


def _is_unreachable(error: requests.RequestException) -> bool:
    """Return whether no server listens, as opposed to one that broke the connection."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    cause = error.args[0] if error.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)
