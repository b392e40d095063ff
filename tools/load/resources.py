"""What a server holds: processes, files, connections, and memory."""

from __future__ import annotations

from collections import Counter

import psutil

from tools.server.processes import wait_until
from tools.server.server import Server

SETTLE_SECONDS = 10.0


def resource_snapshot(server: Server) -> Counter[str]:
    """Count the server's processes, its files except logs, and the connections of its clients."""
    counts = Counter(f"process {process.name()}" for process in server.processes())
    files = (path.relative_to(server.directory) for path in server.directory.rglob("*"))
    counts.update(f"file {path}" for path in files if path.parts[0] != "logs" and "__pycache__" not in path.parts)
    port = int(server.inference_url.rpartition(":")[2])
    connections = server.java().net_connections(kind="tcp")
    counts["connections"] = sum(entry.laddr.port == port and entry.status != "LISTEN" for entry in connections)
    return counts


def leaks_since(server: Server, before: Counter[str]) -> list[str]:
    """Return what there is more of than before, after some time to release it."""
    wait_until(lambda: not resource_snapshot(server) - before, SETTLE_SECONDS)
    return [f"{count} × {name}" for name, count in sorted((resource_snapshot(server) - before).items())]


def leaks_of_stopped(server: Server) -> list[str]:
    """Return what a stopped TorchServe leaves, except the shell in which this program started it."""
    processes = [f"process {process.name()}" for process in server.processes() if process.name() != "sh"]
    return processes + [f"file {path.name}" for path in server.directory.glob(".ts.sock.*")]


def resident_megabytes(process: psutil.Process) -> float:
    """Return a process's resident memory in MB."""
    return float(process.memory_info().rss / 1e6)
