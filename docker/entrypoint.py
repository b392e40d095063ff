"""Runs TorchServe behind HAProxy, and the page if asked; on SIGTERM no accepted request goes without its answer.

TorchServe ends at once when it is told to, and resets every connection. So HAProxy has the ports and is told
first: it takes no new connections and ends with its last answer, or after DRAIN_SECONDS; then TorchServe is stopped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

from tools.server.capacity import WorkerPlan

APP = Path(__file__).parent
STOP_TIMEOUT = 10.0
RESTART_PAUSE = 5.0


def environment() -> dict[str, str]:
    """Returns the environment with workers and threads that fit what the container may use, where it names none."""
    capacity = WorkerPlan.of_machine()
    return {
        "TS_DEFAULT_WORKERS_PER_MODEL": str(capacity.workers),
        "OMP_NUM_THREADS": str(capacity.threads),
        **os.environ,
    }


def proxy_command() -> list[str]:
    """Returns the command line of HAProxy in the foreground."""
    return ["haproxy", "-db", "-f", str(APP / "haproxy.cfg")]


def server_command() -> list[str]:
    """Returns the command line of TorchServe in the foreground, without snapshots of its configuration."""
    launcher = [sys.executable, "-m", "ts.model_server", "--start", "--foreground", "--ncs"]
    files = ["--ts-config", str(APP / "config.properties"), "--log-config", str(APP / "log4j2.xml")]
    return [*launcher, *files, "--model-store", os.environ["MODEL_STORE"]]


def start_page() -> subprocess.Popen[bytes]:
    """Starts the page's server."""
    return subprocess.Popen([sys.executable, "-m", "lens"], cwd=APP, start_new_session=True)


def main() -> int:
    """Runs until a signal, exit status 0, or until TorchServe or HAProxy ends by itself, exit status 1."""
    # Groups of their own: the launcher's has Java and the workers.
    server = subprocess.Popen(server_command(), env=environment(), start_new_session=True)
    proxy = subprocess.Popen(proxy_command(), start_new_session=True)
    page = start_page() if "LENS_PORT" in os.environ else None
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        proxy.send_signal(signal.SIGUSR1)
        if page:
            page.terminate()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while (ended := os.wait()[0]) == (page and page.pid):
        page = None
        if not stopping:
            # Pictures are classified without the page, too.
            print("the page ended by itself; it is started anew", file=sys.stderr, flush=True)
            time.sleep(RESTART_PAUSE)
            page = None if stopping else start_page()
    if not stopping:
        print(f"{'HAProxy' if ended == proxy.pid else 'TorchServe'} ended by itself", file=sys.stderr, flush=True)
    proxy.kill()
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    server.wait(STOP_TIMEOUT)
    return int(not stopping)


if __name__ == "__main__":
    sys.exit(main())
