"""Ports that a server cannot have are named, with the reason."""

from __future__ import annotations

import socket

import pytest

from tools.ports import HOST, PURPOSES
from tools.server.errors import ServerError
from tools.server.port_check import check_ports, free_port


@pytest.mark.parametrize("number", range(len(PURPOSES)))
def test_taken_port_is_named(number: int) -> None:
    port = free_port()
    taken = port + number
    with (
        socket.create_server((HOST, taken)),
        pytest.raises(ServerError, match=rf"port {taken} \({PURPOSES[number]}\): .*in use"),
    ):
        check_ports(port)
    check_ports(port)


@pytest.mark.parametrize("port", [-1, 0, 65532])
def test_port_out_of_range(port: int) -> None:
    with pytest.raises(ServerError, match="from 1 to 65531"):
        check_ports(port)
