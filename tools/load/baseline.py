"""Record what an idle server answers about each image of a load test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests
from PIL import Image

from tools.client.answers import response_error
from tools.load.answer import MalformedAnswer
from tools.load.checking import Expectation, mismatches
from tools.load.plan import RecordedImage
from tools.load.protocols import PROTOCOLS
from tools.sessions import loopback_session


class BaselineError(Exception):
    """The server cannot be reached, or answers wrongly even while it is idle."""


@dataclass(frozen=True)
class Recorder:
    """Requests images from an idle server, one after another, in one protocol.

    Attributes:
        url: the server's root.
        model: its name.
        headers: of every request.
        protocol: by its name.
        timeout: seconds to wait for an answer.
    """

    url: str
    model: str
    headers: Mapping[str, str]
    protocol: str
    timeout: float

    def record(self, paths: Sequence[Path]) -> tuple[RecordedImage, ...]:
        """Request each image's classes and their heatmaps.

        Raises:
            BaselineError: the server cannot be reached, or an answer is wrong.
        """
        with loopback_session() as session:
            session.headers.update(self.headers)
            return tuple(self._record(session, path) for path in paths)

    def _record(self, session: requests.Session, path: Path) -> RecordedImage:
        try:
            return RecordedImage(str(path.resolve()), self.protocol, self._request_twice(session, path).decode())
        except requests.ConnectionError as error:
            raise BaselineError(f"No server answers at {self.url}: {error}") from error
        except (requests.RequestException, MalformedAnswer, OSError) as error:
            raise BaselineError(f"{path}: {error}") from error

    def _request_twice(self, session: requests.Session, path: Path) -> bytes:
        """Request an image's classes, then the heatmaps of all of them; return the second answer.

        Raises:
            MalformedAnswer: the two answers contradict each other.
        """
        image, protocol = path.read_bytes(), PROTOCOLS[self.protocol]
        first = protocol.parse(self._send(session, image, {}))
        if not first.explained or not has_size(path, first.size):
            raise MalformedAnswer("Not the answer to this image: no class is explained, or the size differs")
        classes = tuple(entry.index for entry in first.predictions)
        body = self._send(session, image, {"targets": ",".join(map(str, classes))})
        second = protocol.parse(body)
        contradictions = [
            *mismatches(second, Expectation(classes=classes), first),
            *mismatches(first, Expectation(), second),
        ]
        if contradictions:
            raise MalformedAnswer(f"Wrong answer from an idle server: {contradictions[0]}")
        return body

    def _send(self, session: requests.Session, image: bytes, options: Mapping[str, str]) -> bytes:
        """Return the body of the answer to a request.

        Raises:
            MalformedAnswer: the answer is an error.
        """
        protocol = PROTOCOLS[self.protocol]
        request = protocol.request(image, options)
        address = f"{self.url.rstrip('/')}{protocol.path(self.model)}"
        response = session.post(address, data=request.body, headers=dict(request.headers), timeout=self.timeout)
        if not response.ok:
            raise MalformedAnswer(str(response_error(response)))
        return response.content


def has_size(path: Path, size: tuple[int, int] | None) -> bool:
    """Tell whether an image has this size, either way round: EXIF orientation may swap its sides."""
    with Image.open(path) as image:
        return size is None or sorted(size) == sorted(image.size)
