"""Images and JSON that clients declare as a form are declared as what they are; real forms stay forms."""

from __future__ import annotations

import shutil
import subprocess
import urllib.request
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.proxy.conftest import Proxied
from tests.support import http_client
from tests.support.fake_torchserve import Received

FORM = "application/x-www-form-urlencoded"
IMAGE = "application/octet-stream"
JSON = "application/json"


def encoded(kind: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (5, 3), (1, 2, 3)).save(file, kind)
    return file.getvalue()


def forwarded(proxied: Proxied, body: bytes, content_type: str = FORM) -> Received:
    """Send a body through the proxy and return what TorchServe receives."""
    url = f"{proxied.proxy.url}/predictions/m"
    response = http_client.post(url, data=body, headers={"Content-Type": content_type})
    assert (response.status_code, response.content) == (200, body)
    (request,) = proxied.inference.received
    assert request.body == body
    return request


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("content_type", [FORM, f"{FORM.title()}; charset=utf-8"])
def test_image_is_no_form(proxied: Proxied, kind: str, content_type: str) -> None:
    assert forwarded(proxied, encoded(kind), content_type).headers["content-type"] == IMAGE


def test_big_endian_tiff_and_first_gif_version_are_no_forms(proxied: Proxied) -> None:
    for body in (b"MM\0*" + bytes(60), b"GIF87a" + bytes(60)):
        assert forwarded(proxied, body).headers["content-type"] == IMAGE
        proxied.inference.received.clear()


@pytest.mark.parametrize("body", [b'{"image": "aGk="}', b' \r\n\t{"instances": []}'])
def test_json_is_no_form(proxied: Proxied, body: bytes) -> None:
    assert forwarded(proxied, body).headers["content-type"] == JSON


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"a",
        b"image=aGk%3D&targets=281",
        b"BM=1&b=2" + b"&c=3" * 40,
        b"GIF8=1",
        b"RIFF=1&WEBP=2",
        b"%FF%D8%FF=1",
        b"data=%7B%22image%22%7D",
        b"II*=1",
        b"x=" + b"y" * 100_000,
    ],
)
def test_form_stays_a_form(proxied: Proxied, body: bytes) -> None:
    assert forwarded(proxied, body).headers["content-type"] == FORM


@pytest.mark.parametrize("content_type", ["image/jpeg", "text/plain", "multipart/form-data; boundary=b"])
def test_other_content_types_stay(proxied: Proxied, content_type: str) -> None:
    assert forwarded(proxied, encoded("JPEG"), content_type).headers["content-type"] == content_type


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """A file of 2 MB with a JPEG's magic bytes: curl expects 100 Continue before it sends so much."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded("JPEG") + bytes(2_000_000))
    return path


@pytest.mark.parametrize(
    "command",
    [
        ["curl", "--silent", "--noproxy", "*", "--data-binary", "@{file}", "{url}"],
        ["wget", "--quiet", "--no-proxy", "--output-document=-", "--post-file={file}", "{url}"],
    ],
    ids=lambda command: command[0],
)
def test_command_line_clients(proxied: Proxied, photograph: Path, command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    url = f"{proxied.proxy.url}/predictions/m"
    filled = [part.format(file=photograph, url=url) for part in command]
    completed = subprocess.run(filled, capture_output=True, check=True, timeout=60)
    assert completed.stdout == photograph.read_bytes()
    (request,) = proxied.inference.received
    assert request.headers["content-type"] == IMAGE


def test_urllib(proxied: Proxied, photograph: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{proxied.proxy.url}/predictions/m", photograph.read_bytes(), timeout=60) as response:
        assert response.read() == photograph.read_bytes()
    (request,) = proxied.inference.received
    assert request.headers["content-type"] == IMAGE
