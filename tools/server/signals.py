"""Signal handling that commands with a server share."""

from __future__ import annotations

import signal
from types import FrameType

INTERRUPTED = 130  # exit status after Ctrl-C, as shells report it


def handle_signals() -> None:
    """Treat SIGTERM and SIGHUP like Ctrl-C, and accept Ctrl-C even if a script started the program with `&`."""
    signal.signal(signal.SIGINT, raise_keyboard_interrupt)
    signal.signal(signal.SIGTERM, raise_keyboard_interrupt)
    # nohup ignores SIGHUP, and it has to stay ignored.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, raise_keyboard_interrupt)


def raise_keyboard_interrupt(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal as Python handles Ctrl-C."""
    raise KeyboardInterrupt
