"""The life cycle of one TorchServe: ready inside a `with` block, gone after it.

with Server([Path("model_store/resnet18.mar")], free_port()) as server:
answer = Client(server.inference_url, "resnet18").explain(image)
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import TextIO

import psutil
import requests

from gradcam import machine
from tools.ports import HOST
from tools.server import launch
from tools.server.capacity import WorkerPlan
from tools.server.errors import ServerError
from tools.server.logs import last_lines, load_failure, worker_ended
from tools.server.port_check import check_ports
from tools.server.processes import POLL_INTERVAL, command_line, group_members, is_alive, kill_group, wait_until
from tools.sessions import loopback_session

ONE_WORKER = WorkerPlan(workers=1, threads=machine.cores())

READY_TIMEOUT = 300.0  # of all workers; libraries and weights may come from a cold disk
STOP_TIMEOUT = 10.0  # TorchServe takes 2.5 s to stop
HTTP_TIMEOUT = 10.0
KEPT_LINES = 2000  # of TorchServe's output, for error messages; its log files have all


class Server:
    """One TorchServe process with its workers, from start to stop.

    Every server has its own ports, process group, and temporary directory for all that it writes, so any number of
    them can run side by side. A model is named like its archive.

    Attributes:
        models: names of the models.
        inference_url: root of the inference API, which has `/predictions/{model}`.
        management_url: root of the management API.
        metrics_url: root of the metrics API.
        grpc_inference_address: host and port of the gRPC inference API.
        log_dir: where TorchServe's log files are kept; None if they are removed when the server stops.
    """

    def __init__(
        self,
        archives: Sequence[Path],
        port: int,
        log_dir: Path | None = None,
        plan: WorkerPlan = ONE_WORKER,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Describe a server; nothing runs yet.

        Args:
            archives: the models, `.mar` files from anywhere.
            port: of the inference API; management, metrics and the two gRPC APIs have the next four.
            log_dir: where to keep TorchServe's log files.
            plan: workers of each model whose archive does not set them, and their threads unless `OMP_NUM_THREADS`
                is set.
            settings: properties that replace those of `config.properties`.

        Raises:
            ServerError: an archive is not one, or two have the same name.
        """
        self._archives = launch.archives_by_model(archives)
        self._port = port
        self._settings = dict(settings or {})
        self.models = tuple(self._archives)
        self.inference_url = f"http://{HOST}:{port}"
        self.management_url = f"http://{HOST}:{port + 1}"
        self.metrics_url = f"http://{HOST}:{port + 2}"
        self.grpc_inference_address = f"{HOST}:{port + 3}"
        self.log_dir = log_dir
        self._plan = plan
        self._output: deque[str] = deque(maxlen=KEPT_LINES)
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._reader: Thread | None = None

    def __enter__(self) -> Server:
        """Start the server and wait until it is ready."""
        with ExitStack() as stack:
            stack.callback(self.stop)
            self.start()
            self.wait_until_ready()
            stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()

    def start(self) -> None:
        """Start TorchServe and return at once; `stop` cleans up in any case.

        Raises:
            ServerError: a port is taken, there is no Java, or the path for temporary files is too long.
        """
        java_home = launch.find_java_home()
        check_ports(self._port)
        self._output.clear()
        self._directory = tempfile.TemporaryDirectory(prefix="torchserve-")
        launch.check_socket_path(self.directory)
        if self.log_dir is not None:
            self.log_dir.mkdir(parents=True, exist_ok=True)
        launch.write_files(self.directory, self._archives, self._properties())
        self._process = subprocess.Popen(
            launch.command(self.models),
            cwd=self.directory,
            env=launch.environment(self.directory, java_home, self.log_dir, self._plan.threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            # Ctrl-C in the terminal reaches this program only, which then stops the server in an orderly way.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._reader = Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def wait_until_ready(self, timeout: float = READY_TIMEOUT) -> None:
        """Wait until every model has a worker that answers.

        Raises:
            ServerError: a model cannot be loaded, the server ended, or `timeout` seconds have passed.
        """
        waiting = list(self.models)
        deadline = time.monotonic() + timeout
        while waiting := [model for model in waiting if not self._is_ready(model)]:
            if time.monotonic() > deadline:
                raise ServerError(f"{', '.join(waiting)}: not ready after {timeout:g} s\n{self._tail()}")
            time.sleep(POLL_INTERVAL)

    def wait(self) -> None:
        """Wait as long as the server runs.

        Raises:
            ServerError: the server ended unexpectedly.
        """
        assert self._process is not None
        self._process.wait()
        raise self._ended()

    def worker_pids(self, model: str) -> list[int]:
        """Return the process ids of the model's workers that are ready."""
        with loopback_session() as session:
            response = session.get(f"{self.management_url}/models/{model}", timeout=HTTP_TIMEOUT)
        if response.status_code == requests.codes.not_found:
            raise ServerError(f"{model}: TorchServe did not accept the archive\n{self._tail()}")
        response.raise_for_status()
        (version,) = response.json()
        return [worker["pid"] for worker in version["workers"] if worker["status"] == "READY"]

    def processes(self) -> list[psutil.Process]:
        """Return the living processes of the server's group: launcher, Java and workers."""
        assert self._process is not None
        return group_members(self._process.pid)

    def java(self) -> psutil.Process:
        """Return TorchServe's frontend."""
        (java,) = self._java_processes()
        return java

    @property
    def directory(self) -> Path:
        """The temporary directory of a running server: everything that it writes, except logs that are kept."""
        assert self._directory is not None
        return Path(self._directory.name)

    def stop(self) -> None:
        """Stop the server and its workers and remove what they wrote; do nothing if none runs.

        Raises:
            ServerError: a process survived being killed.
        """
        try:
            self._terminate()
        finally:
            # Also if something interrupted the orderly stop, such as a second Ctrl-C.
            self._kill()
            self._clean()

    def _properties(self) -> dict[str, object]:
        """Return this server's own lines of the configuration."""
        return {
            "default_workers_per_model": self._plan.workers,
            "inference_address": self.inference_url,
            "management_address": self.management_url,
            "metrics_address": self.metrics_url,
            "grpc_inference_address": HOST,
            "grpc_inference_port": self._port + 3,
            "grpc_management_address": HOST,
            "grpc_management_port": self._port + 4,
            **self._settings,
        }

    def _read(self, stream: TextIO) -> None:
        """Keep the last lines that the server writes; an unread pipe would block it."""
        for line in stream:
            self._output.append(line.rstrip("\n"))

    def _is_ready(self, model: str) -> bool:
        """Return whether a worker has loaded the model.

        Raises:
            ServerError: the model cannot be loaded, or the server ended.
        """
        assert self._process is not None
        if self._process.poll() is not None:
            raise self._ended()
        # TorchServe would retry for minutes, with the same archive and the same result.
        if worker_ended(model, output := list(self._output)):
            raise ServerError(f"{model} could not be loaded: {load_failure(model, output)}")
        try:
            return bool(self.worker_pids(model))
        except (requests.ConnectionError, requests.Timeout):
            return False

    def _ended(self) -> ServerError:
        """Return the error for a server that ended unexpectedly."""
        assert self._reader is not None
        self._reader.join(timeout=1)
        return ServerError(f"TorchServe ended unexpectedly\n{self._tail()}")

    def _tail(self) -> str:
        """Return the last lines of the server's output."""
        return last_lines(list(self._output))

    def _java_processes(self) -> list[psutil.Process]:
        return [process for process in self.processes() if launch.JAVA_CLASS in command_line(process)]

    def _terminate(self) -> None:
        """Ask TorchServe to end, and wait for it."""
        if self._process is None:
            return
        # The launcher first, which only waits for Java: it might be about to start it.
        self._process.kill()
        self._process.wait()
        java = self._java_processes()
        for process in java:
            process.terminate()
        wait_until(lambda: not any(is_alive(process) for process in java), STOP_TIMEOUT)

    def _kill(self) -> None:
        """Kill what is left: busy workers, or every process if TorchServe did not end."""
        if self._process is None:
            return
        group = self._process.pid
        if not wait_until(lambda: kill_group(group), STOP_TIMEOUT):
            pids = ", ".join(str(process.pid) for process in self.processes())
            raise ServerError(f"could not kill process {pids}")
        self._process.wait()

    def _clean(self) -> None:
        """Forget the process and remove the temporary directory."""
        if self._process is not None and self._reader is not None:
            with self._process:  # closes its pipes
                self._reader.join(timeout=1)
        self._process = self._reader = None
        if self._directory is not None:
            self._directory.cleanup()
        self._directory = None
