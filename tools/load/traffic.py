"""Requests that can be told apart, clients that send them all at once, and what became of each.

make_questions → learn → Traffic → Outcome

Every picture has its own size, shows something else and asks for its own class, and every bad request is refused in
its own words: whatever is answered belongs to one request only, which `learn` proves before anything else is sent.
"""

from __future__ import annotations

import io
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from threading import Event, Thread
from types import TracebackType
from typing import Any

import numpy as np
import requests
from PIL import Image

CLIENTS = 16
ANSWER_SECONDS = 120.0  # longer than TorchServe takes to give up a worker
PAUSE_SECONDS = 0.5  # of a client after an error: a server in trouble would get thousands of requests else

# What the place in a batch leaves of the same numbers; those of two requests differ by much more.
PROBABILITY_TOLERANCE = 2e-6
HEATMAP_TOLERANCE = 1e-4

BROKEN = "connection broken"
NOT_CONNECTED = "connection refused"
NO_ANSWER = "no answer"


class Confusable(Exception):
    """The answers to two requests cannot be told apart."""


# ----------------------------------------------------------------------------- questions


@dataclass(frozen=True)
class Question:
    """A request: the body and its headers."""

    body: bytes
    headers: dict[str, str]


def make_questions(good: int, bad: int = 0) -> list[Question]:
    """Returns so many requests to answer and so many to refuse, each recognisable by a number."""
    return [picture(number) for number in range(good)] + [bad_question(number) for number in range(bad)]


def picture(number: int) -> Question:
    """Returns a picture of its own size, with a request for the class of its number."""
    coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((200 + 3 * number, 150 + 2 * number), Image.Resampling.BICUBIC)
    return Question(encoded(image, "jpeg"), {"Gradcam-Targets": str(number)})


def encoded(image: Image.Image, kind: str) -> bytes:
    """Returns the picture's file."""
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def bad_question(number: int) -> Question:
    """Returns a request that is refused in words of its own."""
    good = picture(number).body
    kinds = (
        Question(b"not a picture" + b"." * number, {}),
        Question(good, {"Gradcam-Targets": f"no such class {number}"}),
        Question(good, {"Gradcam-Alpha": str(2 + number)}),
        Question(good, {"Gradcam-Method": f"no such method {number}"}),
        Question(
            json.dumps({f"no such option {number}": 1, "image": ""}).encode(), {"Content-Type": "application/json"}
        ),
        Question(good, {"Gradcam-Layer": f"layer{100 + number}"}),
    )
    return kinds[number % len(kinds)]


@dataclass(frozen=True)
class Answer:
    """What a request got alone, and gets again whatever else is going on."""

    status: int
    text: str

    def belongs(self, status: int, text: str) -> bool:
        """Tells whether this is the same answer, to rounding."""
        if status != requests.codes.ok or self.status != requests.codes.ok:
            return (status, text) == (self.status, self.text)
        own, other = json.loads(self.text), json.loads(text)
        return own["image"] == other["image"] and same_numbers(own, other)


def same_numbers(own: Any, other: Any) -> bool:
    """Tells whether two documents have the same classes, probabilities and map, to rounding."""
    (explained,), (compared,) = own["explanations"], other["explanations"]
    return bool(
        explained["index"] == compared["index"]
        and close(explained["heatmap"], compared["heatmap"], HEATMAP_TOLERANCE)
        and close(explained["probability"], compared["probability"], PROBABILITY_TOLERANCE)
        # Not the classes': two that are equally probable may change places.
        and close(probabilities(own), probabilities(other), PROBABILITY_TOLERANCE)
    )


def probabilities(document: Any) -> list[float]:
    """Returns those of the most probable classes."""
    return [entry["probability"] for entry in document["predictions"]]


def close(own: Any, other: Any, tolerance: float) -> bool:
    """Tells whether all numbers are the same to within a tolerance."""
    return bool(np.allclose(own, other, rtol=0, atol=tolerance))


def learn(url: str, questions: Sequence[Question]) -> list[Answer]:
    """Asks one question after the other, and returns the answers.

    Raises:
        Confusable: an answer would also pass for the one to another question.
    """
    with session() as alone:
        responses = [alone.post(url, data=asked.body, headers=asked.headers, timeout=30) for asked in questions]
    answers = [Answer(response.status_code, response.text) for response in responses]
    for one, other in combinations(answers, 2):
        if one.belongs(other.status, other.text):
            raise Confusable(f"two requests have the same answer: {one.text[:200]}")
    return answers


def session() -> requests.Session:
    """Opens a session that takes no proxy on the way to loopback."""
    opened = requests.Session()
    opened.trust_env = False
    return opened


# ----------------------------------------------------------------------------- traffic


@dataclass(frozen=True)
class Outcome:
    """What became of one request; the times are of the clock `time.monotonic`."""

    sent: float
    ended: float
    kind: str
    """The status, with the type that TorchServe's own errors have, or what happened to the connection."""
    good: bool
    """The request was answered, with 200 or with the refusal that it got alone."""
    wrong: bool = False
    """The answer is not this request's: not what it got alone."""
    message: str = ""
    """Of an error that is TorchServe's own."""


class Traffic:
    """Clients that ask one question after the other while the block runs.

    Attributes:
        outcomes: of every request, in the order in which they ended.
    """

    def __init__(
        self, url: str, questions: Sequence[Question], answers: Sequence[Answer], clients: int = CLIENTS
    ) -> None:
        """Describes the traffic; nothing is sent yet.

        Args:
            url: where to.
            questions: to ask, over and over, by every client in an order of its own.
            answers: of each question.
            clients: how many there are.
        """
        self.outcomes: list[Outcome] = []
        self._url = url
        self._known = list(zip(questions, answers, strict=True))
        self._over = Event()
        self._clients = [Thread(target=self._ask_on, args=(number,), daemon=True) for number in range(clients)]

    def __enter__(self) -> Traffic:
        """Lets the clients begin."""
        for client in self._clients:
            client.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Waits until every client has what became of its last request."""
        self._over.set()
        for client in self._clients:
            client.join()

    def _ask_on(self, number: int) -> None:
        shuffled = random.Random(number)
        with session() as own:
            while not self._over.is_set():
                for asked, answer in shuffled.sample(self._known, len(self._known)):
                    if self._over.is_set():
                        return
                    outcome = ask(own, self._url, asked, answer)
                    self.outcomes.append(outcome)
                    if not outcome.good:
                        self._over.wait(PAUSE_SECONDS)


def ask(own: requests.Session, url: str, asked: Question, answer: Answer) -> Outcome:
    """Sends a request and returns what became of it."""
    sent = time.monotonic()
    try:
        response = own.post(url, data=asked.body, headers=asked.headers, timeout=ANSWER_SECONDS)
        text = response.text
    except requests.RequestException as error:
        return Outcome(sent, time.monotonic(), failure(error), good=False)
    return judged(sent, response.status_code, text, answer)


def judged(sent: float, status: int, text: str, answer: Answer) -> Outcome:
    """Returns the outcome of a request that was answered."""
    ended = time.monotonic()
    own = torchserve_error(text) if status != requests.codes.ok else None
    if own is not None:
        kind, message = own
        return Outcome(sent, ended, f"{status} {kind}", good=False, message=message)
    belongs = answer.belongs(status, text)
    return Outcome(sent, ended, str(status), good=belongs, wrong=not belongs)


def torchserve_error(text: str) -> tuple[str, str] | None:
    """Returns type and message of an error that is TorchServe's; the handler's have another form."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError:
        return "without JSON", text
    match document:
        case {"type": str(kind), "message": str(message)}:
            return kind, message
        case _:
            return None


def failure(error: requests.RequestException) -> str:
    """Returns what happened to the connection."""
    if isinstance(error, requests.Timeout):
        return NO_ANSWER
    return NOT_CONNECTED if "NewConnectionError" in repr(error) else BROKEN


def good_since(outcomes: Sequence[Outcome], moment: float) -> Iterator[Outcome]:
    """Yields the good answers to requests that were sent after a moment."""
    return (outcome for outcome in outcomes if outcome.good and outcome.sent >= moment)
