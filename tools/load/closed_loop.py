"""Closed-loop load: each client sends its next request as soon as the previous one is answered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from threading import Event, Thread
from types import TracebackType
from typing import Generic, TypeVar

from tools.load.connection import Connection, Exchange
from tools.load.request import TestRequest

Result = TypeVar("Result")
Loop = TypeVar("Loop", bound="ClosedLoop")  # type: ignore[type-arg]


class ClosedLoop(ABC, Generic[Result]):
    """Clients that send requests, each over its own connection, while the `with` block runs.

    Attributes:
        results: one for each request, in the order in which they ended.
    """

    def __init__(self, url: str, requests: Sequence[TestRequest], clients: int) -> None:
        """Describe the load; nothing is sent yet.

        Args:
            url: where requests go.
            requests: what to send.
            clients: how many requests are under way at once.
        """
        self.results: list[Result] = []
        self._url, self._requests = url, requests
        self._stopped = Event()
        self._error: Exception | None = None
        self._clients = [Thread(target=self._run, args=(number,), daemon=True) for number in range(clients)]

    @abstractmethod
    def order(self, client: int) -> Iterator[int]:
        """Yield the indices of the requests that a client sends, by the client's number."""

    @abstractmethod
    def judge(self, index: int, exchange: Exchange) -> Result:
        """Return the result of a request; an exception ends all clients and is raised at the end of the block."""

    def pause(self, result: Result) -> float:
        """Return for how many seconds a client waits after a result."""
        return 0.0

    def __enter__(self: Loop) -> Loop:
        """Start the clients."""
        for client in self._clients:
            client.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait until every client has the result of its last request."""
        self._stopped.set()
        for client in self._clients:
            client.join()
        if self._error is not None and kind is None:
            raise self._error

    def wait(self, seconds: float) -> None:
        """Let the clients run for some seconds, or until one of them fails."""
        self._stopped.wait(seconds)

    def _run(self, number: int) -> None:
        try:
            with Connection(self._url) as connection:
                for index in self.order(number):
                    if self._stopped.is_set():
                        return
                    result = self.judge(index, connection.post(self._requests[index]))
                    self.results.append(result)
                    if seconds := self.pause(result):
                        self._stopped.wait(seconds)
        except Exception as error:  # raised again in the thread that waits
            self._error = self._error or error
            self._stopped.set()
