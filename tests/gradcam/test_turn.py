"""The turn of expensive requests, among processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gradcam.turn import Turn
from tools.paths import HANDLER

HOLD = """
import sys
from pathlib import Path
from gradcam.turn import Turn
with Turn(Path(sys.argv[1])).take() as granted:
    print(granted, flush=True)
    sys.stdin.read()
"""


def granted(turn: Turn) -> bool:
    with turn.take() as free:
        return free


def test_a_process_alone_always_has_the_turn() -> None:
    turn = Turn()
    with turn.take() as first:
        assert first
        assert granted(turn)


def test_one_of_several_has_the_turn(tmp_path: Path) -> None:
    one, other = Turn(tmp_path), Turn(tmp_path)
    with one.take() as first:
        assert first
        assert not granted(other)
        assert granted(Turn(tmp_path.parent)), "another model's"
    assert granted(other)


def test_a_killed_process_loses_the_turn(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path],
        env={"PYTHONPATH": str(HANDLER)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert not granted(Turn(tmp_path))
    finally:
        holder.kill()
        holder.communicate()
    assert granted(Turn(tmp_path))
