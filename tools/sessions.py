"""HTTP sessions: with retries for an overloaded server, and past any proxy on the way to this machine."""

from __future__ import annotations

from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

MAX_CONNECTIONS = 8
# A request changes nothing on the server, so it may be sent again. TorchServe answers 503 for "queue full" and "no
# worker yet", and 500 or 507 for "Worker died.", to every request of that worker's batch; a server that stops breaks
# connections. All of these are temporary: a dead worker is replaced within 15 s. Other failures would repeat.
TEMPORARY_STATUSES = frozenset({500, 503, 507})
STATUS_RETRIES, BACKOFF_FACTOR = 6, 0.5
# Pauses before the second, third, … attempt, as urllib3 computes them.
BACKOFF_SECONDS = (0.0, *(BACKOFF_FACTOR * 2**number for number in range(1, STATUS_RETRIES)))
RETRIES = Retry(
    total=None,
    connect=0,
    read=1,
    status=STATUS_RETRIES,
    status_forcelist=TEMPORARY_STATUSES,
    allowed_methods={"POST"},
    backoff_factor=BACKOFF_FACTOR,
    raise_on_status=False,
)
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def loopback_session() -> requests.Session:
    """Return a session that ignores proxies from the environment, which cannot reach this machine's loopback."""
    session = requests.Session()
    session.trust_env = False
    return session


def open_session(url: str, connections: int = MAX_CONNECTIONS) -> requests.Session:
    """Return a session that keeps connections alive and retries while the server is overloaded.

    Args:
        url: of the server; a loopback address is never looked for behind a proxy.
        connections: how many to keep open at most.
    """
    session = loopback_session() if urlsplit(url).hostname in LOOPBACK else requests.Session()
    session.headers["Accept"] = "application/json"
    adapter = HTTPAdapter(pool_maxsize=connections, max_retries=RETRIES)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
