"""Clients that no HTTP library imitates: slow ones, and ones that go away."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from contextlib import ExitStack
from http.client import HTTPException, HTTPResponse
from itertools import cycle
from urllib.parse import urlsplit

from tools.load.traffic import ANSWER_SECONDS, BROKEN, Answer, Outcome, Question, judged

BYTE_SECONDS = 0.05
GO_SECONDS = 0.2
# The connection is reset when its socket is closed, rather than ended in good order.
RESET = struct.pack("ii", 1, 0)


def message(url: str, asked: Question) -> bytes:
    """Returns a request as it goes over the wire."""
    parts = urlsplit(url)
    headers = {"Host": parts.netloc, "Content-Length": str(len(asked.body)), **asked.headers}
    lines = [f"POST {parts.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + asked.body


def connection(url: str) -> socket.socket:
    """Opens a connection to the server of a URL."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 80), timeout=ANSWER_SECONDS)


def send_slowly(url: str, questions: Sequence[Question], answers: Sequence[Answer], seconds: float) -> list[Outcome]:
    """Sends requests at the same time, byte by byte for some seconds and then the rest, and waits for the answers."""
    sent = time.monotonic()
    with ExitStack() as stack:
        open_ones = [stack.enter_context(connection(url)) for _ in questions]
        messages = [message(url, asked) for asked in questions]
        slow = round(seconds / BYTE_SECONDS)
        for position in range(slow):
            time.sleep(BYTE_SECONDS)
            for one, whole in zip(open_ones, messages, strict=True):
                one.sendall(whole[position : position + 1])
        for one, whole in zip(open_ones, messages, strict=True):
            one.sendall(whole[slow:])
        return [receive(one, sent, answer) for one, answer in zip(open_ones, answers, strict=True)]


def receive(one: socket.socket, sent: float, answer: Answer) -> Outcome:
    """Reads the answer and returns what it is."""
    try:
        with HTTPResponse(one) as response:
            response.begin()
            return judged(sent, response.status, response.read().decode(), answer)
    except (HTTPException, OSError):
        return Outcome(sent, time.monotonic(), BROKEN, good=False)


def go_away(url: str, questions: Sequence[Question], seconds: float) -> int:
    """Sends half of a request, or all of it, and closes the connection, over and over; returns how often."""
    end, count = time.monotonic() + seconds, 0
    for asked in cycle(questions):
        if time.monotonic() > end:
            break
        whole = message(url, asked)
        with connection(url) as one:
            one.sendall(whole if count % 2 else whole[: len(whole) // 2])
            if count % 4 < 2:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        count += 1
        time.sleep(GO_SECONDS)
    return count
