"""Download of published weights, verified by the hash in the file's name."""

from __future__ import annotations

import hashlib
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

import torch

from gradcam.network.architecture import EFFICIENTNET_LITE0, NetworkError

DOWNLOAD_TIMEOUT_SECONDS = 20.0


class WeightsUnavailable(NetworkError):
    """Published weights cannot be downloaded here; the message says which file to provide."""


def download(url: str) -> Path:
    """Download a published file into torch's cache, once, and verify it by the hash in its name.

    Raises:
        WeightsUnavailable: the download failed; the message says how to provide the file.
        NetworkError: the file does not match its hash.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(urlsplit(url).path).name
    prefix = hash_prefix_of(path.name)
    if path.exists() and has_hash(path, prefix):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    print(f"Downloading {url}", file=sys.stderr)
    try:
        with _socket_timeout(DOWNLOAD_TIMEOUT_SECONDS):
            torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=True)
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise WeightsUnavailable(
            f"{path.name} could not be downloaded ({reason}). Provide the file yourself: get {url} on a machine with "
            f"access, and pass it with --weights {path.name} (for make: WEIGHTS={path.name}). These need no download: "
            f"--weights random, and --arch {EFFICIENTNET_LITE0} (for make: MODEL={EFFICIENTNET_LITE0})"
        ) from error
    except RuntimeError as error:
        raise NetworkError(f"{url} is not the published file: {error}") from error
    return path


def hash_prefix_of(file_name: str) -> str | None:
    """Return the first digits of the SHA-256 in a name such as `resnet18-f37072fd.pth`; None if it has none."""
    match = re.search(r"-([0-9a-f]{8,})\.", file_name)
    return match[1] if match else None


def has_hash(path: Path, prefix: str | None) -> bool:
    """Return whether the SHA-256 of the file begins with these digits."""
    return prefix is not None and hashlib.sha256(path.read_bytes()).hexdigest().startswith(prefix)


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    # torch.hub opens the URL without a timeout, so a firewall that drops packets would block the build forever.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
