"""A model's address on a server, the form of a request, and the meaning of a response: whichever client sends it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlsplit

from tools.client.answers import Answer, HttpResponse, invalid_response, parse_answer, response_error
from tools.client.errors import ModelNotFound
from tools.ports import INFERENCE_URL
from tools.sessions import LOOPBACK, MAX_CONNECTIONS

DEFAULT_MODEL = "resnet18"
CONNECT_SECONDS, ANSWER_SECONDS = 5, 120
NOT_FOUND = 404

OptionValue = str | int | float | bool | Sequence[int | str] | None


class Endpoint(ABC):
    """A model on a server; subclasses send requests to it.

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
        self._open(headers or {}, connections)

    @abstractmethod
    def _open(self, headers: Mapping[str, str], connections: int) -> None:
        """Prepare the connections, which send the headers with every request."""

    @property
    def endpoint(self) -> str:
        """The address that takes images."""
        names = [self.model] if self.version is None else [self.model, self.version]
        return "/".join([f"{self.url}/predictions", *(quote(name, safe="") for name in names)])

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine, where no proxy may be used."""
        return urlsplit(self.url).hostname in LOOPBACK

    def _answer(self, response: HttpResponse, options: Mapping[str, OptionValue]) -> Answer:
        """Return the answer in a response.

        Raises:
            ImageError: there is no usable response, and other images may have one.
            ModelNotFound: the server does not serve the model.
        """
        if response.status_code == NOT_FOUND:
            name = self.model if self.version is None else f"{self.model}/{self.version}"
            raise ModelNotFound(f"{self.url} has no model {name!r} ({response_error(response)})")
        answer = parse_answer(response)
        if options.get("overlay", "none") not in {None, "none"} and any(
            explanation.overlay is None for explanation in answer.explanations
        ):
            raise invalid_response(response)
        return answer


def image_file(image: bytes) -> dict[str, tuple[str, bytes, str]]:
    """Return an image as the file of a multipart form: unlike headers, its fields may carry labels in any script."""
    # A constant name for the part: a file's own name might hold what a multipart header cannot.
    return {"data": ("image", image, "application/octet-stream")}


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
