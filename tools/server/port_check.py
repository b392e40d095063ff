"""Checks that a server can have its ports, and searches for free ones."""

from __future__ import annotations

import random
import socket

from tools.ports import HOST, PURPOSES
from tools.server.errors import ServerError


def check_ports(port: int) -> None:
    """Check that a server whose inference API has this port can have all its ports.

    Raises:
        ServerError: a port is out of range or not available.
    """
    highest = 65536 - len(PURPOSES)
    if not 0 < port <= highest:
        raise ServerError(f"port must be from 1 to {highest}, because the next four are used as well; got {port}")
    for number, purpose in enumerate(PURPOSES, start=port):
        if reason := port_error(number):
            raise ServerError(f"port {number} ({purpose}): {reason}")


def port_error(port: int) -> str | None:
    """Return why nothing can listen on the port of the loopback interface; None if it is free."""
    with socket.socket() as probe:
        # As Java does: a port is free although connections of its previous owner are still in TIME_WAIT.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error.strerror
    return None


def free_port() -> int:
    """Return a free port that is followed by four more free ports.

    Raises:
        ServerError: none was found.
    """
    # Below the range from which systems take the ports of outgoing connections.
    candidates = random.sample(range(10_000, 32_000, len(PURPOSES)), 100)
    for port in candidates:
        if not any(port_error(number) for number in range(port, port + len(PURPOSES))):
            return port
    raise ServerError("no five consecutive free ports found between 10000 and 32000")
