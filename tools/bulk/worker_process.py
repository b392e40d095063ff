"""A process that explains images with an archive's own code, and is replaced when it is lost."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from multiprocessing import Pipe
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# A row of the output, except the image's path.
OutputRow = dict[str, Any]

START_SECONDS = 300.0
# Multiples of the time that a batch may take. A process that takes longer is stuck where no signal interrupts it.
PATIENCE = 2
PROGRAM = "worker.py"


class WorkerError(Exception):
    """The archive or the options are invalid: no image can be explained."""


class WorkerLost(Exception):
    """The process ended, or was killed because it was stuck."""


class WorkerProcess:
    """The process that explains images, and the next one when it is lost."""

    def __init__(self, archive: bytes, program: str, options: dict[str, Any]) -> None:
        """Start the first process.

        Args:
            archive: content of a `.mar` file.
            program: source code of `worker.py`.
            options: of the request for every image.

        Raises:
            WorkerError: the process cannot explain any image.
        """
        self._archive, self._program, self._options = archive, program, options
        self._start()

    def explain(self, images: Sequence[bytes | str]) -> list[OutputRow]:
        """Return a row for each image, in order; an image that kills the process gets an error."""
        try:
            return self._request(images)
        except WorkerLost:
            return [self._explain_alone(image) for image in images]

    def close(self) -> None:
        """Kill the process and remove its folder."""
        self._connection.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        """The ID of the current process."""
        return self._process.pid

    def _explain_alone(self, image: bytes | str) -> OutputRow:
        try:
            (row,) = self._request([image])
        except WorkerLost as error:
            message = f"The process was lost while it explained only this image: {error}"
            return {"error": {"code": "process_lost", "message": message}}
        return row

    def _start(self) -> None:
        self._folder = TemporaryDirectory(prefix="explain-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        with zipfile.ZipFile(io.BytesIO(self._archive)) as archive:
            archive.extractall(folder)
        (folder / PROGRAM).write_text(self._program, encoding="utf-8")
        self._connection, child_connection = Pipe()
        with child_connection:
            self._process = subprocess.Popen(
                [sys.executable, PROGRAM, str(child_connection.fileno()), json.dumps(self._options)],
                cwd=folder,
                # Import the archive's code, even if another version is installed.
                env={**os.environ, "PYTHONPATH": str(folder)},
                stdin=subprocess.DEVNULL,
                pass_fds=[child_connection.fileno()],
            )
        try:
            reply = self._receive(START_SECONDS)
        except WorkerLost as error:
            self.close()
            raise WorkerError(f"Cannot load the archive: {error}") from error
        if isinstance(reply, str):
            self.close()
            raise WorkerError(reply)
        self._seconds = reply

    def _request(self, images: Sequence[bytes | str]) -> list[OutputRow]:
        """Send images to the process and return its rows.

        Raises:
            WorkerLost: the process did not answer; another one has been started.
        """
        try:
            # If the images exceed the time limit together, the process explains each of them alone.
            rows: list[OutputRow] = self._receive(PATIENCE * self._seconds * (1 + len(images)), images)
        except WorkerLost:
            self.close()
            self._start()
            raise
        return rows

    def _receive(self, seconds: float, images: Sequence[bytes | str] | None = None) -> Any:
        """Return the process's next message, after sending it images if there are any.

        Raises:
            WorkerLost: the process ended, or sent nothing within this time.
        """
        try:
            if images is not None:
                self._connection.send(list(images))
            if self._connection.poll(None if seconds == math.inf else seconds):
                return self._connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            raise WorkerLost(f"exit status {self._process.wait()}") from error
        raise WorkerLost(f"no answer within {seconds:g} s")
