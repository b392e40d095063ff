"""Weights from files of every kind, and from a real HTTP server."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import io
import os
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch
import torchvision
from safetensors.torch import save
from torch import Tensor, nn

from gradcam.network import architecture as network
from gradcam.network.architecture import NetworkError
from tools.archive import weights
from tools.archive.weights import WeightsUnavailable

STATE = {"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.tensor([0.5, -1.0])}


# What torch thinks of somebody's file is no fault of ours.
torch_may_warn = pytest.mark.filterwarnings("ignore::UserWarning:torch")


def saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def assert_state(loaded: dict[str, Tensor]) -> None:
    assert list(loaded) == list(STATE)
    assert all(torch.equal(loaded[name], STATE[name]) for name in STATE)


# ----------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("w.pt", saved(STATE)),
        ("w.pth", saved(STATE)),
        ("w.bin", saved(STATE)),
        ("w.pth", saved(STATE, _use_new_zipfile_serialization=False)),
        ("w.pth", saved({"state_dict": STATE, "epoch": 3})),
        ("w.pth", saved({"model": STATE, "optimizer": {"lr": 0.1}})),
        ("w.pth", saved({f"module.{name}": tensor for name, tensor in STATE.items()})),
        ("w.pth", saved({"state_dict": {f"module.{name}": tensor for name, tensor in STATE.items()}})),
        ("w.pth", saved({name: nn.Parameter(tensor) for name, tensor in STATE.items()})),
    ],
    ids=["pt", "pth", "bin", "legacy", "state_dict", "model", "DataParallel", "both", "parameters"],
)
def test_state_dicts_are_read(tmp_path: Path, name: str, data: bytes) -> None:
    assert_state(weights.read_state_dict(written(tmp_path / name, data)))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_safetensors_are_read(tmp_path: Path, prefix: str) -> None:
    data = save({prefix + name: tensor for name, tensor in STATE.items()})
    loaded = weights.read_state_dict(written(tmp_path / "w.safetensors", data))
    assert_state({name: loaded[name] for name in STATE})
    assert len(loaded) == len(STATE)


def test_a_prefix_that_not_all_names_have_stays(tmp_path: Path) -> None:
    state = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    assert set(weights.read_state_dict(written(tmp_path / "w.pt", saved(state)))) == set(state)


class Malicious:
    """A pickle of it creates a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., int], tuple[Any, ...]]:
        return os.open, (str(self.path), os.O_CREAT | os.O_WRONLY)


@torch_may_warn
@pytest.mark.parametrize(
    "wrap", [lambda thing: thing, lambda thing: {**STATE, "x": thing}], ids=["alone", "among tensors"]
)
@pytest.mark.parametrize(
    "dump",
    [pickle.dumps, saved, lambda thing: saved(thing, _use_new_zipfile_serialization=False)],
    ids=["pickle", "zip", "legacy"],
)
def test_code_in_a_pickle_is_not_run(
    tmp_path: Path, dump: Callable[[Any], bytes], wrap: Callable[[Malicious], Any]
) -> None:
    path = written(tmp_path / "w.pth", dump(wrap(Malicious(tmp_path / "owned"))))
    with pytest.raises(NetworkError, match=r"^w\.pth is not a state dict that can be read without running code"):
        weights.read_state_dict(path)
    assert not (tmp_path / "owned").exists()


def test_the_malicious_pickle_is_one(tmp_path: Path) -> None:
    os.close(pickle.loads(pickle.dumps(Malicious(tmp_path / "owned"))))
    assert (tmp_path / "owned").exists()


GARBAGE = {
    "empty": b"",
    "text": b"hello world\n",
    "html": b"<html>404</html>",
    "json": b"{}",
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "zip": b"PK\x03\x04" + b"\0" * 40,
    "git lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "truncated": saved(STATE)[:400],
    "empty pickle stack": b"\x80\x02.",
    "zeros": b"\0" * 100,
    "full model": saved(nn.Linear(1, 1)),
}


@torch_may_warn
@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.safetensors"])
@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_refused(tmp_path: Path, data: bytes, name: str) -> None:
    with pytest.raises(NetworkError) as raised:
        weights.read_state_dict(written(tmp_path / name, data))
    assert str(raised.value).startswith(f"{name} is not a state dict")
    assert "torch.save(model.state_dict(), …)" in str(raised.value)


@torch_may_warn
@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_files_are_refused_or_read(tmp_path: Path, legacy: bool) -> None:
    whole = saved(STATE, _use_new_zipfile_serialization=not legacy)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        data = bytearray(whole)
        for position in torch.randint(len(data), (3,), generator=generator).tolist():
            data[position] = int(torch.randint(256, (), generator=generator))
        try:
            weights.read_state_dict(written(tmp_path / "w.pth", bytes(data)))
        except NetworkError:
            continue


@pytest.mark.parametrize(
    "content",
    [
        {},
        [torch.zeros(1)],
        torch.zeros(1),
        {"a": 1},
        {"state_dict": {}},
        {"state_dict": None},
        {"a": torch.zeros(1), "b": "x"},
    ],
    ids=repr,
)
def test_what_is_no_state_dict(tmp_path: Path, content: Any) -> None:
    with pytest.raises(NetworkError, match=r"^w\.pt holds no state dict, which maps names to tensors$"):
        weights.read_state_dict(written(tmp_path / "w.pt", saved(content)))


def test_a_dict_without_names(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"^w\.pt holds no state dict"):
        weights.read_state_dict(written(tmp_path / "w.pt", saved({0: torch.zeros(1)})))


@pytest.mark.parametrize("name", ["nowhere.pt", "nowhere.safetensors"])
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(NetworkError, match=f"^there is no weights file .*{name}$"):
        weights.read_state_dict(tmp_path / name)


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="is not a state dict"):
        weights.read_state_dict(tmp_path)


# ----------------------------------------------------------------------------- number of classes


def state_of(architecture: str, num_classes: int) -> dict[str, Tensor]:
    return network.build(architecture, num_classes).state_dict()


@pytest.mark.parametrize(
    ("architecture", "num_classes"),
    [
        ("resnet18", 7),
        ("resnet18", 2),
        ("resnet18", 512),
        ("squeezenet1_1", 7),
        ("mobilenet_v3_small", 1),
        ("regnet_y_400mf", 7),
    ],
)
def test_number_of_classes(architecture: str, num_classes: int) -> None:
    assert weights.num_classes_of(architecture, state_of(architecture, num_classes), None) == num_classes


# ----------------------------------------------------------------------------- the three sources


def test_what_is_published_for_resnet18() -> None:
    known = weights.published("resnet18")
    assert (known.name, known.file_name) == ("torchvision ResNet18_Weights.IMAGENET1K_V1", "resnet18-f37072fd.pth")
    assert known.preprocessing == weights.Preprocessing(
        (224, 224), 256, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
    assert len(known.labels) == 1000
    assert (known.labels[0], known.labels[281], known.labels[515]) == ("tench", "tabby", "cowboy hat")


def test_everything_published_can_be_checked_by_its_hash() -> None:
    for architecture in network.architectures():
        if architecture != network.EFFICIENTNET_LITE0:
            name = weights.published(architecture).file_name
            assert weights._hash_prefix(name), name


def test_random_weights_are_seeded() -> None:
    torch.manual_seed(12345)
    first = weights.load("resnet18", "random", 7, None)
    second = weights.load("resnet18", "random", 7, None)
    torch.manual_seed(0)
    expected = torchvision.models.resnet18(num_classes=7).state_dict()
    assert list(first.state_dict) == list(second.state_dict) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(first.state_dict[name], tensor)
        assert torch.equal(second.state_dict[name], tensor)
    assert (first.source, first.labels) == ("random (seed 0)", None)


def test_random_weights_have_the_published_classes_unless_told() -> None:
    loaded = weights.load("squeezenet1_1", "random", None, None)
    assert loaded.state_dict["classifier.1.bias"].shape == (1000,)
    assert loaded.labels == weights.published("resnet18").labels


def test_a_file_of_the_users(tmp_path: Path) -> None:
    loaded = weights.load("resnet18", str(written(tmp_path / "mine.pth", saved(STATE))), None, None)
    assert_state(loaded.state_dict)
    assert (loaded.source, loaded.labels) == ("mine.pth", None)


def test_a_file_with_the_published_name_but_other_content(tmp_path: Path) -> None:
    path = written(tmp_path / "resnet18-f37072fd.pth", saved(STATE))
    loaded = weights.load("resnet18", str(path), None, None)
    assert (loaded.source, loaded.labels) == ("resnet18-f37072fd.pth", None)


@pytest.mark.parametrize("renamed", [None, "resnet18.pth"])
def test_the_published_file_brought_by_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: str | None
) -> None:
    data = saved(STATE)
    name = f"resnet18-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    known = weights.published("resnet18")
    moved = dataclasses.replace(known, file_name=name)
    monkeypatch.setattr(weights, "published", lambda architecture: moved)
    loaded = weights.load("resnet18", str(written(tmp_path / (renamed or name), data)), None, None)
    assert (loaded.source, loaded.labels) == (known.name, known.labels)


# ----------------------------------------------------------------------------- download


@dataclass
class Site:
    """A server on this machine: what it has, and what it was asked for."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    requested: list[str] = field(default_factory=list)
    answer: Callable[[BaseHTTPRequestHandler], None] | None = None
    """Replaces the usual answer."""

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/models/{name}"

    def publish(self, data: bytes, *, hashed: bytes | None = None) -> str:
        """Puts a file under the name that carries its hash (or that of `hashed`); returns its URL."""
        name = f"resnet18-{hashlib.sha256(data if hashed is None else hashed).hexdigest()[:8]}.pth"
        self.files[f"/models/{name}"] = data
        return self.url(name)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.requested.append(self.path)
            if site.answer is not None:
                site.answer(self)
            elif self.path not in site.files:
                self.send_error(404)
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(site.files[self.path])))
                self.end_headers()
                self.wfile.write(site.files[self.path])

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's cache, empty; nothing here may reach the user's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def collected() -> Iterator[None]:
    """Collects the sockets that http.client leaves open in a traceback, before another test is blamed for them."""
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
    path = weights.download(url)
    assert path == cache / urlsplit(url).path.rsplit("/", 1)[1]
    assert path.read_bytes() == saved(STATE)
    assert weights.download(url) == path
    assert len(site.requested) == 1
    assert files_in(cache) == [path]
    shown = capfd.readouterr()
    assert f"Downloading {url}\n" in shown.err
    assert "100%" in shown.err
    assert shown.out == ""


def test_a_corrupt_file_in_the_cache_is_downloaded_again(site: Site, cache: Path) -> None:
    url = site.publish(saved(STATE))
    path = weights.download(url)
    path.write_bytes(saved(STATE)[:-100])
    assert weights.download(url) == path
    assert path.read_bytes() == saved(STATE)
    assert len(site.requested) == 2


def test_a_file_that_is_not_what_its_hash_says(site: Site, cache: Path) -> None:
    url = site.publish(b"something else", hashed=saved(STATE))
    with pytest.raises(NetworkError) as raised:
        weights.download(url)
    assert not isinstance(raised.value, WeightsUnavailable)
    assert str(raised.value).startswith(f"{url} is not the published file: invalid hash value")
    assert files_in(cache) == []


def test_a_wrong_download_leaves_the_corrupt_file_out_of_use(site: Site, cache: Path) -> None:
    url = site.publish(b"something else", hashed=saved(STATE))
    cache.mkdir(parents=True)
    (cache / urlsplit(url).path.rsplit("/", 1)[1]).write_bytes(b"corrupt")
    for _ in range(2):
        with pytest.raises(NetworkError, match="is not the published file"):
            weights.download(url)
    assert len(site.requested) == 2


def unavailable(url: str, cache: Path) -> str:
    with pytest.raises(WeightsUnavailable) as raised:
        weights.download(url)
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
    with socket.socket() as bound:  # bound but not listening: nobody else can, and connections are refused
        bound.bind(("127.0.0.1", 0))
        message = unavailable(f"http://127.0.0.1:{bound.getsockname()[1]}/resnet18-01234567.pth", cache)
    assert "refused" in message


@broken_connection
def test_a_server_that_says_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "DOWNLOAD_TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        message = unavailable(f"http://127.0.0.1:{silent.getsockname()[1]}/resnet18-01234567.pth", cache)
    assert "timed out" in message
    assert socket.getdefaulttimeout() is None


@broken_connection
def test_a_server_that_stops_in_the_middle(site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "DOWNLOAD_TIMEOUT_SECONDS", 0.2)
    resume = threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        handler.wfile.write(b"x" * 100)
        handler.wfile.flush()
        resume.wait(10)

    site.answer = stall
    try:
        assert "timed out" in unavailable(site.url("resnet18-01234567.pth"), cache)
    finally:
        resume.set()


@broken_connection
def test_a_connection_that_ends_too_early(site: Site, cache: Path) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        handler.wfile.write(b"x" * 100)

    site.answer = cut
    with pytest.raises(NetworkError, match=r"resnet18-01234567\.pth"):
        weights.download(site.url("resnet18-01234567.pth"))
    assert files_in(cache) == []


@broken_connection
def test_a_server_that_does_not_speak_http(site: Site, cache: Path) -> None:
    def greet(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")

    site.answer = greet
    unavailable(site.url("resnet18-01234567.pth"), cache)


def test_default_weights_come_from_where_they_are_published(
    site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = weights.published("resnet18")
    asked: list[str] = []
    really_download = weights.download

    def download(url: str) -> Path:
        asked.append(url)
        return really_download(site.publish(saved(STATE)))

    monkeypatch.setattr(weights, "download", download)
    loaded = weights.load("resnet18", "default", None, None)
    assert_state(loaded.state_dict)
    assert (loaded.source, loaded.labels) == (known.name, known.labels)
