"""Published files are downloaded once and verified, from a real HTTP server with every kind of failure."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gradcam.network.architecture import NetworkError
from tests.support.state_dicts import STATE, saved
from tests.support.weights_site import Site
from tools.archive import download
from tools.archive.download import WeightsUnavailable


@pytest.fixture
def collected() -> Iterator[None]:
    """Collect sockets that http.client leaves open in a traceback, before they fail another test."""
    yield
    gc.collect()


def broken_connection(test: Callable[..., None]) -> Callable[..., None]:
    marked = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")(test)
    pytest.mark.usefixtures("collected")(marked)
    return test


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_published_file_is_downloaded_once(site: Site, cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    url = site.publish(saved(STATE))
    path = download.download(url)
    assert path == cache / urlsplit(url).path.rsplit("/", 1)[1]
    assert path.read_bytes() == saved(STATE)
    assert download.download(url) == path
    assert len(site.requested) == 1
    assert files_in(cache) == [path]
    output = capfd.readouterr()
    assert f"Downloading {url}\n" in output.err
    assert "100%" in output.err
    assert output.out == ""


def test_a_corrupt_file_in_the_cache_is_downloaded_again(site: Site, cache: Path) -> None:
    url = site.publish(saved(STATE))
    path = download.download(url)
    path.write_bytes(saved(STATE)[:-100])
    assert download.download(url) == path
    assert path.read_bytes() == saved(STATE)
    assert len(site.requested) == 2


def test_a_file_that_does_not_match_its_hash(site: Site, cache: Path) -> None:
    url = site.publish(b"something else", hashed=saved(STATE))
    with pytest.raises(NetworkError) as raised:
        download.download(url)
    assert not isinstance(raised.value, WeightsUnavailable)
    assert str(raised.value).startswith(f"{url} is not the published file: invalid hash value")
    assert files_in(cache) == []


def test_a_wrong_download_does_not_make_the_corrupt_file_usable(site: Site, cache: Path) -> None:
    url = site.publish(b"something else", hashed=saved(STATE))
    cache.mkdir(parents=True)
    (cache / urlsplit(url).path.rsplit("/", 1)[1]).write_bytes(b"corrupt")
    for _ in range(2):
        with pytest.raises(NetworkError, match="is not the published file"):
            download.download(url)
    assert len(site.requested) == 2


def unavailable(url: str, cache: Path) -> str:
    with pytest.raises(WeightsUnavailable) as raised:
        download.download(url)
    assert files_in(cache) == []
    message, name = str(raised.value), urlsplit(url).path.rsplit("/", 1)[1]
    assert message.startswith(f"{name} could not be downloaded (")
    for advice in (f"get {url} ", f"--weights {name}", f"WEIGHTS={name}"):
        assert advice in message
    return message


def test_a_file_that_the_server_does_not_have(site: Site, cache: Path) -> None:
    assert "(Not Found)" in unavailable(site.url("resnet18-01234567.pth"), cache)


@broken_connection
def test_a_server_that_is_not_there(cache: Path) -> None:
    with socket.socket() as bound:  # bound but not listening, so connections are refused
        bound.bind(("127.0.0.1", 0))
        message = unavailable(f"http://127.0.0.1:{bound.getsockname()[1]}/resnet18-01234567.pth", cache)
    assert "refused" in message


@broken_connection
def test_a_server_that_does_not_respond(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "DOWNLOAD_TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        message = unavailable(f"http://127.0.0.1:{silent.getsockname()[1]}/resnet18-01234567.pth", cache)
    assert "timed out" in message
    assert socket.getdefaulttimeout() is None


@broken_connection
def test_a_server_that_stops_in_the_middle(site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "DOWNLOAD_TIMEOUT_SECONDS", 0.2)
    resume = threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        handler.wfile.write(b"x" * 100)
        handler.wfile.flush()
        resume.wait(10)

    site.respond = stall
    try:
        assert "timed out" in unavailable(site.url("resnet18-01234567.pth"), cache)
    finally:
        resume.set()


@broken_connection
def test_a_connection_that_ends_too_early(site: Site, cache: Path) -> None:
    def stop(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        handler.wfile.write(b"x" * 100)

    site.respond = stop
    with pytest.raises(NetworkError, match=r"resnet18-01234567\.pth"):
        download.download(site.url("resnet18-01234567.pth"))
    assert files_in(cache) == []


@broken_connection
def test_a_server_that_does_not_speak_http(site: Site, cache: Path) -> None:
    def greet(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")

    site.respond = greet
    unavailable(site.url("resnet18-01234567.pth"), cache)
