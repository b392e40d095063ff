"""Process helpers: liveness, process groups, waiting for a condition, and a wrapper tied to its parent's life."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import psutil

POLL_INTERVAL = 0.1  # seconds

# The parent holds the other end of stdin. When the parent ends, for whatever reason, the pipe closes and the wrapper
# kills its whole process group.
PARENT_DEATH_WRAPPER = (
    "sh",
    "-c",
    'exec 3<&0 </dev/null; { read -r _ <&3; kill -KILL 0; } >/dev/null 2>&1 & exec "$@" 3<&-',
    "sh",
)


def is_alive(process: psutil.Process) -> bool:
    """Return whether the process runs; zombies, which many containers never reap, count as dead."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def command_line(process: psutil.Process) -> list[str]:
    """Return the command line of the process; empty if the process is gone."""
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


def group_members(group: int) -> list[psutil.Process]:
    """Return the living processes of a process group."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and is_alive(process):
                members.append(process)
        except ProcessLookupError:
            continue
    return members


def kill_group(group: int) -> bool:
    """Kill every current member of a process group; return whether the group was already empty."""
    members = group_members(group)
    for process in members:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    return not members


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Poll the condition for at most `timeout` seconds; return whether it became true."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL)
    return True
