"""Clients that no HTTP library imitates: slow ones, and ones that disconnect."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from contextlib import ExitStack
from http.client import HTTPException, HTTPResponse
from itertools import cycle
from urllib.parse import urlsplit

from tools.load.checking import RecordedAnswer
from tools.load.connection import ANSWER_SECONDS, BROKEN, Exchange
from tools.load.request import TestRequest
from tools.load.traffic import Outcome, judge

BYTE_SECONDS = 0.05
DISCONNECT_SECONDS = 0.2
# Reset the connection when its socket is closed, instead of closing it in an orderly way.
RESET = struct.pack("ii", 1, 0)


def http_message(url: str, request: TestRequest) -> bytes:
    """Return the bytes of a request on the wire."""
    parts = urlsplit(url)
    headers = {"Host": parts.netloc, "Content-Length": str(len(request.body)), **request.headers}
    lines = [f"POST {parts.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + request.body


def connect(url: str) -> socket.socket:
    """Open a connection to the server of a URL."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 80), timeout=ANSWER_SECONDS)


def send_slowly(
    url: str, requests: Sequence[TestRequest], baseline: Sequence[RecordedAnswer], seconds: float
) -> list[Outcome]:
    """Send requests concurrently, byte by byte for some seconds, then the rest; wait for all responses."""
    sent = time.monotonic()
    with ExitStack() as stack:
        sockets = [stack.enter_context(connect(url)) for _ in requests]
        messages = [http_message(url, request) for request in requests]
        slow_bytes = round(seconds / BYTE_SECONDS)
        for position in range(slow_bytes):
            time.sleep(BYTE_SECONDS)
            for client, message in zip(sockets, messages, strict=True):
                client.sendall(message[position : position + 1])
        for client, message in zip(sockets, messages, strict=True):
            client.sendall(message[slow_bytes:])
        return [receive(client, sent, expected) for client, expected in zip(sockets, baseline, strict=True)]


def receive(client: socket.socket, sent: float, expected: RecordedAnswer) -> Outcome:
    """Read a response and return how the request ended."""
    try:
        with HTTPResponse(client) as response:
            response.begin()
            body = response.read()
    except (HTTPException, OSError):
        return Outcome(sent, time.monotonic(), BROKEN, good=False)
    return judge(Exchange(sent, time.monotonic(), response.status, body), expected)


def disconnect_repeatedly(url: str, requests: Sequence[TestRequest], seconds: float) -> int:
    """Send half or all of a request and disconnect, over and over; return how often."""
    end, count = time.monotonic() + seconds, 0
    for request in cycle(requests):
        if time.monotonic() > end:
            break
        message = http_message(url, request)
        with connect(url) as client:
            client.sendall(message if count % 2 else message[: len(message) // 2])
            if count % 4 < 2:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        count += 1
        time.sleep(DISCONNECT_SECONDS)
    return count
