"""Run TorchServe behind HAProxy, with V2's gRPC service and, if LENS_PORT is set, the page.

On SIGTERM every accepted request is completed.

On SIGTERM TorchServe ends immediately and resets every connection. So HAProxy owns the ports and is stopped first:
it accepts no new connections and ends after its last response, or after DRAIN_SECONDS. Then TorchServe is stopped.
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
GRPC, PAGE = "kserve_grpc", "lens"
NAMES = {GRPC: "The gRPC service", PAGE: "The page"}


def environment() -> dict[str, str]:
    """Return the environment, with workers and threads that fit the container's limits unless it sets them."""
    plan = WorkerPlan.of_machine()
    return {
        "TS_DEFAULT_WORKERS_PER_MODEL": str(plan.workers),
        "OMP_NUM_THREADS": str(plan.threads),
        **os.environ,
    }


def proxy_command() -> list[str]:
    """Return the command line of HAProxy in the foreground."""
    return ["haproxy", "-db", "-f", str(APP / "haproxy.cfg")]


def server_command() -> list[str]:
    """Return the command line of TorchServe in the foreground, without snapshots of its configuration."""
    launcher = [sys.executable, "-m", "ts.model_server", "--start", "--foreground", "--ncs"]
    files = ["--ts-config", str(APP / "config.properties"), "--log-config", str(APP / "log4j2.xml")]
    return [*launcher, *files, "--model-store", os.environ["MODEL_STORE"]]


def start(module: str) -> subprocess.Popen[bytes]:
    """Start a helper, a server without which TorchServe works."""
    return subprocess.Popen([sys.executable, "-m", module], cwd=APP, start_new_session=True)


def main() -> int:
    """Run until a signal (exit status 0), or until TorchServe or HAProxy ends by itself (exit status 1)."""
    # Separate process groups: the launcher's contains Java and the workers.
    server = subprocess.Popen(server_command(), env=environment(), start_new_session=True)
    proxy = subprocess.Popen(proxy_command(), start_new_session=True)
    helpers = {module: start(module) for module in (GRPC, *([PAGE] if "LENS_PORT" in os.environ else []))}
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        proxy.send_signal(signal.SIGUSR1)
        # The gRPC service continues until HAProxy has ended.
        if PAGE in helpers:
            helpers[PAGE].terminate()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while (ended := os.wait()[0]) in (pids := {process.pid: module for module, process in helpers.items()}):
        module = pids[ended]
        del helpers[module]
        if not stopping:
            print(f"{NAMES[module]} ended by itself; restarting it", file=sys.stderr, flush=True)
            time.sleep(RESTART_PAUSE)
        if not stopping:
            helpers[module] = start(module)
    if not stopping:
        print(f"{'HAProxy' if ended == proxy.pid else 'TorchServe'} ended by itself", file=sys.stderr, flush=True)
    proxy.kill()
    for process in helpers.values():
        process.kill()
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    server.wait(STOP_TIMEOUT)
    return int(not stopping)


if __name__ == "__main__":
    sys.exit(main())
