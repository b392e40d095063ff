"""A process that answers pictures with an archive's own code, and the next one where it is lost."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from multiprocessing import Pipe
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# A row of the output, but for the picture's path.
Row = dict[str, Any]

START_SECONDS = 300.0
# Two terms of what a batch may take: a process that is not done then is stuck in something that no signal interrupts.
PATIENCE = 2
PROGRAM = "worker.py"


class EngineError(Exception):
    """The archive or the options are no good: no picture can be answered."""


class EngineLost(Exception):
    """The process ended, or was ended because it was stuck."""


class Engine:
    """The process that answers pictures, and the next one where it is lost."""

    def __init__(self, archive: bytes, program: str, options: dict[str, Any]) -> None:
        """Starts the first one.

        Args:
            archive: a `.mar`.
            program: the text of `explain_worker.py`.
            options: what to ask about every picture.

        Raises:
            EngineError: it cannot answer any.
        """
        self._archive, self._program, self._options = archive, program, options
        self._start()

    def answer(self, pictures: Sequence[bytes | str]) -> list[Row]:
        """Returns a row for each picture, in order; one that the process does not survive gets an error."""
        try:
            return self._ask(pictures)
        except EngineLost:
            return [self._answer_alone(picture) for picture in pictures]

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        """Of the process that answers now."""
        return self._process.pid

    def _answer_alone(self, picture: bytes | str) -> Row:
        try:
            (row,) = self._ask([picture])
        except EngineLost as error:
            return {"error": {"code": "process_lost", "message": f"the picture was alone in a process: {error}"}}
        return row

    def _start(self) -> None:
        self._folder = TemporaryDirectory(prefix="explain-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        with zipfile.ZipFile(io.BytesIO(self._archive)) as archive:
            archive.extractall(folder)
        (folder / PROGRAM).write_text(self._program, encoding="utf-8")
        self._connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, PROGRAM, str(theirs.fileno()), json.dumps(self._options)],
                cwd=folder,
                # The archive's code, whichever is installed.
                env={**os.environ, "PYTHONPATH": str(folder)},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        try:
            said = self._receive(START_SECONDS)
        except EngineLost as error:
            self.close()
            raise EngineError(f"the archive could not be loaded: {error}") from error
        if isinstance(said, str):
            self.close()
            raise EngineError(said)
        self._seconds = said

    def _ask(self, pictures: Sequence[bytes | str]) -> list[Row]:
        """Has the process answer.

        Raises:
            EngineLost: it did not; another one is there now.
        """
        try:
            # Together they may run out of time, and are then done one by one.
            rows: list[Row] = self._receive(PATIENCE * self._seconds * (1 + len(pictures)), pictures)
        except EngineLost:
            self.close()
            self._start()
            raise
        return rows

    def _receive(self, seconds: float, pictures: Sequence[bytes | str] | None = None) -> Any:
        """Returns what the process says, to these pictures where they are given.

        Raises:
            EngineLost: it ended, or said nothing in this time.
        """
        try:
            if pictures is not None:
                self._connection.send(list(pictures))
            if self._connection.poll(seconds):
                return self._connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            raise EngineLost(f"it ended with {self._process.wait()}") from error
        raise EngineLost(f"it was not done in {seconds:g} s")
