"""Signals that end a command like Ctrl-C, in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

CODE = """
import time
from tools.server.signals import handle_signals
handle_signals()
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_work_like_ctrl_c(number: signal.Signals) -> None:
    # As a shell does for a command in the background: SIGINT is ignored at first.
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", CODE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.communicate(timeout=30)[0] == "interrupted\n"
    assert process.returncode == 0


def test_nohup_stays_in_effect() -> None:
    command = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", sys.executable, "-c", CODE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=30)[0] == "interrupted\n"
