"""Process groups, and a wrapper that does not outlive its parent."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from tools.server.processes import (
    PARENT_DEATH_WRAPPER,
    command_line,
    group_members,
    is_alive,
    kill_group,
    wait_until,
)

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_group_is_killed_with_all_its_members() -> None:
    with subprocess.Popen(SLEEP, start_new_session=True) as process:
        (member,) = group_members(process.pid)
        assert is_alive(member)
        assert command_line(member)[-1] == SLEEP[-1]
        assert not kill_group(process.pid)
        assert wait_until(lambda: kill_group(process.pid), 10)
        process.wait(timeout=10)
    assert not is_alive(member)
    assert command_line(member) == []


def test_a_zombie_is_not_alive() -> None:
    process = subprocess.Popen(["true"])
    try:
        assert wait_until(lambda: not is_alive(psutil.Process(process.pid)), 10)
    finally:
        process.wait(timeout=10)


@pytest.mark.parametrize("way", ["closes the pipe", "is killed"])
def test_the_wrapper_ends_with_its_parent(way: str) -> None:
    parent = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    if way == "closes the pipe":
        with subprocess.Popen([*PARENT_DEATH_WRAPPER, *SLEEP], stdin=subprocess.PIPE, start_new_session=True) as child:
            group = os.getpgid(child.pid)
            assert wait_until(lambda: len(group_members(group)) >= 2, 10)
            assert child.stdin is not None
            child.stdin.close()
            assert wait_until(lambda: group_members(group) == [], 10)
            child.wait(timeout=10)
        return
    command = [sys.executable, "-c", parent, *PARENT_DEATH_WRAPPER, *SLEEP]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        group = int(process.stdout.readline())
        assert wait_until(lambda: len(group_members(group)) >= 2, 10)
        process.kill()
        assert wait_until(lambda: group_members(group) == [], 10)
        process.wait(timeout=10)


def test_waiting_ends_at_the_timeout() -> None:
    assert wait_until(lambda: True, 0)
    assert not wait_until(lambda: False, 0.01)
