"""Runs TorchServe behind HAProxy; on SIGTERM no request that was accepted goes without its answer.

TorchServe ends at once when it is told to, and resets every connection. So HAProxy has the ports and is told
first: it takes no new connections and ends with its last answer, or after DRAIN_SECONDS; then TorchServe is stopped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

APP = Path(__file__).parent
STOP_TIMEOUT = 10.0


def proxy_command() -> list[str]:
    """Returns the command line of HAProxy in the foreground."""
    return ["haproxy", "-db", "-f", str(APP / "haproxy.cfg")]


def server_command() -> list[str]:
    """Returns the command line of TorchServe in the foreground, without snapshots of its configuration."""
    launcher = [sys.executable, "-m", "ts.model_server", "--start", "--foreground", "--ncs"]
    files = ["--ts-config", str(APP / "config.properties"), "--log-config", str(APP / "log4j2.xml")]
    return [*launcher, *files, "--model-store", os.environ["MODEL_STORE"]]


def main() -> int:
    """Runs until a signal, exit status 0, or until either process ends by itself, exit status 1."""
    # Groups of their own: the launcher's has Java and the workers.
    server = subprocess.Popen(server_command(), start_new_session=True)
    proxy = subprocess.Popen(proxy_command(), start_new_session=True)
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        proxy.send_signal(signal.SIGUSR1)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    ended, _ = os.wait()
    if not stopping:
        print(f"{'HAProxy' if ended == proxy.pid else 'TorchServe'} ended by itself", file=sys.stderr, flush=True)
    proxy.kill()
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    server.wait(STOP_TIMEOUT)
    return int(not stopping)


if __name__ == "__main__":
    sys.exit(main())
