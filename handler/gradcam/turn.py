"""The turn of expensive requests: at most one worker of a model on a machine runs one at a time.

The others reject theirs at once and so stay free for cheap requests.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Turn:
    """A lock that processes share."""

    path: Path | None = None
    """A file or folder that all workers of the model see; None if this process is the only one."""

    @contextmanager
    def take(self) -> Iterator[bool]:
        """Take the turn without waiting, and yield whether it was free.

        The operating system ends the turn of a process that dies.
        """
        if self.path is None:
            yield True
            return
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield _lock(descriptor)
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
