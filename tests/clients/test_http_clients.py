"""Clients that know nothing of KServe: Postman, curl, wget, and Python's urllib."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import HERE, MODEL, Place, run
from tests.support import http_client

CAT = "Egyptian cat"
IMAGE_TYPE = "Content-Type: image/png"


def label(answer: bytes) -> str:
    """Return the most probable label of an answer."""
    document: dict[str, Any] = json.loads(answer)
    return str(document["predictions"][0]["label"])


@pytest.fixture(scope="module")
def bodies(image: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files with the bodies of TorchServe's examples for V1 and V2, and of one image as JSON."""
    folder = tmp_path_factory.mktemp("bodies")
    text = base64.b64encode(image.read_bytes()).decode()
    tensor = {"name": "4b7c7d4a-51e4-43c8-af61-04639f6ef4bc", "shape": [-1], "datatype": "BYTES", "data": [text]}
    documents = {
        "v1": {"instances": [{"data": text}]},
        "v2": {"id": "f0222600-353f-47df-8d9d-c96d96fa894e", "inputs": [tensor]},
        "json": {"image": text},
    }
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    return {name: folder / f"{name}.json" for name in documents}


def test_postman(place: Place, node: Path, image: Path, bodies: dict[str, Path]) -> None:
    files = {"image": image, "v1": bodies["v1"], "v2": bodies["v2"]}
    values = {"address": place.address, "model": MODEL, **{name: str(path) for name, path in files.items()}}
    variables = [part for name, value in values.items() for part in ("--env-var", f"{name}={value}")]
    # Fails if an assertion of the collection fails.
    report = run(["npx", "newman", "run", HERE / "postman.json", "--bail", *variables], node)
    assert report.count("200 OK") == 6


def curl(place: Place, *arguments: str) -> bytes:
    command = ["curl", "--silent", "--noproxy", "*", *arguments, f"http://{place.address}/predictions/{MODEL}"]
    return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout


def test_curl(place: Place, image: Path, bodies: dict[str, Path]) -> None:
    for arguments in (
        ["--upload-file", str(image)],
        ["--form", f"data=@{image}"],
        ["--json", f"@{bodies['json']}"],
        ["--data-binary", f"@{image}", "--header", IMAGE_TYPE],
    ):
        assert label(curl(place, *arguments)) == CAT


@pytest.mark.parametrize("name", ["image", "json"])
def test_curl_without_a_type(name: str, place: Place, image: Path, bodies: dict[str, Path]) -> None:
    file = {"image": image, **bodies}[name]
    answer = curl(place, "--data-binary", f"@{file}")
    if place.name == "image":
        assert label(answer) == CAT
    else:
        # TorchServe fails on an image, and gives JSON to the handler as a form.
        assert json.loads(answer)["code"] == 500 if name == "image" else "sent as a form" in answer.decode()


def test_sagemakers_form(place: Place, image: Path) -> None:
    url = f"http://{place.address}/invocations?model_name={MODEL}"
    assert label(http_client.post(url, data=image.read_bytes(), headers={"Content-Type": "image/png"}).content) == CAT


def test_options_in_the_query(place: Place, image: Path) -> None:
    url = f"http://{place.address}/predictions/{MODEL}?topk=2"
    response = http_client.post(url, data=image.read_bytes(), headers={"Content-Type": "image/png"})
    if place.name == "image":
        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_option")
    else:
        assert len(response.json()["predictions"]) == 5


def wget(place: Place, file: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = ["wget", "--quiet", "--no-proxy", "--tries=1", "--output-document=-", f"--post-file={file}", *options]
    url = f"http://{place.address}/predictions/{MODEL}"
    return subprocess.run([*command, url], capture_output=True, check=False, timeout=60)


def test_wget(place: Place, image: Path) -> None:
    assert label(wget(place, image, f"--header={IMAGE_TYPE}").stdout) == CAT
    without_type = wget(place, image)
    assert (without_type.returncode == 0) == (place.name == "image")
    assert not without_type.stdout or label(without_type.stdout) == CAT


def test_urllib(place: Place, image: Path) -> None:
    def call(**headers: str) -> bytes:
        request = urllib.request.Request(f"http://{place.address}/predictions/{MODEL}", image.read_bytes(), headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as response:
            return bytes(response.read())

    assert label(call(**{"Content-Type": "image/png"})) == CAT
    if place.name == "image":
        assert label(call()) == CAT
    else:
        with pytest.raises(urllib.error.HTTPError) as failure:
            call()
        failure.value.close()
        assert failure.value.code == 500
