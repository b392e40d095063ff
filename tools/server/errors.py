"""The error of the server life cycle."""

from __future__ import annotations


class ServerError(Exception):
    """TorchServe or the page's server could not start, did not become ready, or ended unexpectedly."""
