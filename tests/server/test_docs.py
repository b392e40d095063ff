"""Every command of README.md, CONTRIBUTING.md and docs/, run against a real server or checked in a defined way.

Commands run in a workspace: a folder of links to the checkout, with its own `build/` and the files that a reader of the
documentation would have (`tuned.pth`, `labels.txt`, …). Commands that need a cluster, Docker, a GPU, root or minutes of
time are not run; each kind has a check instead, see `CHECKS`. A command of no kind fails the test.
"""

from __future__ import annotations

import base64
import functools
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torchvision
import yaml
from PIL import Image

from gradcam.settings import Settings
from tests.support import oracles
from tests.support.manifests import tool
from tools import ports
from tools.archive.rewrite import read_config
from tools.paths import DOCKERFILE, EXAMPLE_IMAGE, EXAMPLES, REQUIREMENTS, ROOT
from tools.server.port_check import free_port

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*PAGES, *(ROOT / name for name in ("SECURITY.md", "CHANGELOG.md", "examples/README.md", "scripts/README.md"))]
SERVE = "make serve MODEL=efficientnet_lite0"
FOLDERS = "scripts|tools|tests|handler|kubernetes|docker|lens|docs|requirements"
READY = "Ctrl-C stops the server."
START_SECONDS = 200
COMMAND_SECONDS = 280
PHOTO_SIDE = 4000  # pixels; its base64 exceeds the 128 KiB that Linux allows for one argument

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="the documented commands need curl")


# ----------------------------------------------------------------------------- blocks of the pages


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def id(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S):
        yield Block(page, text.count("\n", 0, match.start()) + 2, match[1], match[2])


def commands(block: Block) -> Iterator[Block]:
    """Yield each command of a shell block, with its continued lines or its here-document."""
    text = block.text
    if block.language == "console":  # output becomes empty lines
        text = re.sub(r"^(?:\$ (.*)|.*)$", r"\1", text, flags=re.M)
    lines = enumerate(text.splitlines(), start=block.line)
    for number, line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        command = [line]
        while command[-1].endswith("\\"):
            command.append(next(lines)[1])
        if document := re.search(r"<<'?(\w+)'?$", line):
            while command[-1] != document[1]:
                command.append(next(lines)[1])
        yield Block(block.page, number, block.language, "\n".join(command))


BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = [command for block in BLOCKS if block.language in ("sh", "bash", "console") for command in commands(block)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
# The others are excerpts of a page's script.
NODE = [block for block in BLOCKS if block.language == "js" and "node:fs" in block.text]
NODE_VERSION = 20


# ----------------------------------------------------------------------------- workspace and server


@dataclass(frozen=True)
class Workspace:
    """A checkout's files, and a server that `make serve` started."""

    folder: Path
    port: int

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )

    def local(self, text: str) -> str:
        """Return the text with this server's ports in place of the defaults."""
        for offset in range(4):
            text = re.sub(rf"\b{ports.INFERENCE + offset}\b", str(self.port + offset), text)
        return text

    def build_archives(self, command: str) -> None:
        """Build the archives `build/NAME.mar` that a command needs, as an earlier command of the pages does."""
        for name in re.findall(r"build/(\w+)\.mar", command):
            if not (self.folder / "build" / f"{name}.mar").exists():
                build = next(c.text for c in COMMANDS if f"--name {name} " in c.text and "build_mar.py" in c.text)
                completed = self.shell(build)
                assert completed.returncode == 0, completed.stderr

    def write_bundle(self, command: str) -> None:
        """Write the bundle that a command needs, as an earlier command of the pages does."""
        for folder in re.findall(r"(build/\w+)/manifest\.json", command):
            if not (self.folder / folder).exists():
                run(next(c.text for c in COMMANDS if f"--bundle {folder}" in c.text), self)


def environment() -> dict[str, str]:
    """A user's environment: without the variables that the make running these tests passes on."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}


@contextmanager
def running(command: str, folder: Path, is_ready: Callable[[str], bool]) -> Iterator[None]:
    """Run a command in the foreground until it is ready, and end it as Ctrl-C in a terminal does."""
    output = folder / "build" / "output.txt"
    with output.open("w") as file:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=folder,
            env=environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready(output.read_text()):
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.2)
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=60)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("workspace")
    for path in ROOT.iterdir():
        if path.name not in ("build", ".git"):
            (folder / path.name).symlink_to(path)
    (folder / "build").mkdir()
    (folder / "photos").symlink_to(EXAMPLES)
    (folder / "labels.txt").write_text("cat\ncoffee\nrocket\n")
    network = oracles.seeded(torchvision.models.resnet18(num_classes=3))
    torch.save(network.state_dict(), folder / "tuned.pth")
    (folder / "my_network.py").write_text(
        "from torch import nn\n\n\n"
        "def create_model(num_classes):\n"
        "    convolution = nn.Conv2d(3, 8, 3, stride=4)\n"
        "    return nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), "
        "nn.Linear(8, num_classes))\n"
    )
    state = {"0.weight": (8, 3, 3, 3), "0.bias": (8,), "4.weight": (3, 8), "4.bias": (3,)}
    torch.save({name: torch.rand(shape) for name, shape in state.items()}, folder / "my_network.pth")
    port = free_port()
    with running(f"{SERVE} PORT={port}", folder, lambda output: READY in output):
        yield Workspace(folder, port)


# ----------------------------------------------------------------------------- commands that run


def run(command: str, workspace: Workspace) -> None:
    """Run a command as it is, apart from ports and the client's default address; it must succeed."""
    workspace.build_archives(command)
    workspace.write_bundle(command)
    command = workspace.local(command)
    if command.startswith(("scripts/predict.py", "scripts/reproduce.py", "scripts/healthcheck.py")):
        program, _, redirection = command.partition(" > ")
        command = f"{program} --url http://127.0.0.1:{workspace.port}" + (redirection and f" > {redirection}")
    if command.startswith("scripts/build_mar.py") and "--output" not in command:
        command += " --output build"
    completed = workspace.shell(command)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    check_output(command, completed.stdout, workspace)


def check_output(command: str, output: str, workspace: Workspace) -> None:
    if command.startswith("scripts/predict.py"):
        file = re.search(r" > (\S+)$", command)
        assert "Egyptian cat" in ((workspace.folder / file[1]).read_text() if file else output)
        if "--report" in command:
            assert "Egyptian cat" in (workspace.folder / "report.html").read_text()
    elif file := re.search(r"> (build/\w+\.(?:png|jpg))$", command):
        magic_bytes = b"\x89PNG" if file[1].endswith("png") else b"\xff\xd8"
        assert (workspace.folder / file[1]).read_bytes().startswith(magic_bytes)
    elif command.endswith("/metrics"):
        assert "gradcam_trunk_seconds_count" in output
    elif command.startswith("curl"):
        check_response(command, json.loads(output))
    elif command.startswith("scripts/settings.py") and "--set" in command:
        settings = Settings.from_mapping(read_config(workspace.folder / "build" / "mine.mar")["gradcam"])
        assert (settings.max_passes, settings.methods) == (8, ("gradcam", "layercam"))
    elif command.startswith("scripts/settings.py"):
        assert re.search(r"^  max_passes +32 +32 +Maximum forward passes", output, re.MULTILINE)


def check_response(command: str, response: Any) -> None:
    if "/models/efficientnet_lite0?" in command:
        assert response[0]["customizedMetadata"]["architecture"] == "efficientnet_lite0"
        return
    if "/v2/models/" in command:
        (label,) = (output for output in response["outputs"] if output["name"] == "label")
        assert label["data"][0] == "Egyptian cat"
        return
    entries = response["predictions"] if "/v1/models/" in command else [response]
    assert entries[0]["predictions"][0]["label"] == "Egyptian cat" or "coffee" in command
    for entry in entries:
        assert all(explanation["evidence"] is True for explanation in entry["explanations"])
        assert entry["explanations"]


def run_demo(command: str, workspace: Workspace) -> None:
    completed = workspace.shell(command)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert re.search(r"\d+ \S.*\d\d\.\d\d%", completed.stdout), "labels and probabilities"
    assert "build/demo" in completed.stdout
    folders = (workspace.folder, ROOT)
    assert any(list((folder / "build" / "demo").glob("chelsea.*.jpg")) for folder in folders)


def run_serve(command: str, workspace: Workspace) -> None:
    """Serve until the command says that it is ready."""
    if command == SERVE:
        return  # it runs during all of these tests
    workspace.build_archives(command)
    port = free_port()
    command = re.sub(r" --port \d+", "", command) + f" --port {port}"
    with (
        running(command, workspace.folder, lambda output: READY in output),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=10) as response,
    ):
        assert response.status == 200


def run_page(command: str, workspace: Workspace) -> None:
    """Run the page's own server until it is healthy."""
    port = free_port()
    settings = {
        "LENS_PORT": port,
        "LENS_INFERENCE": f"http://127.0.0.1:{workspace.port}",
        "LENS_MANAGEMENT": f"http://127.0.0.1:{workspace.port + 1}",
    }
    variables = " ".join(f"{name}={value}" for name, value in settings.items())

    def is_healthy(_: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    with running(f"env {variables} .venv/bin/{command}", workspace.folder, is_healthy):
        pass


# ----------------------------------------------------------------------------- commands that are checked


def check_make(command: str, workspace: Workspace) -> None:
    """`make -n` accepts the target, and the Makefile uses each variable."""
    makefile = (ROOT / "Makefile").read_text()
    for variable in re.findall(r"\b([A-Z0-9_]+)=", command):
        assert f"$({variable})" in makefile, f"{variable} is no variable of the Makefile"
    completed = workspace.shell(command.replace("make", "make -n", 1))
    assert completed.returncode == 0, completed.stderr


@functools.cache
def help_text(*program: str) -> str:
    completed = subprocess.run([*program, "--help"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    if missing := re.search(r"(\w+): .*is missing; run:", completed.stderr):
        # Without the group `ray` there is no help; the options are in the source.
        return "\n".join(path.read_text() for path in ROOT.glob(f"tools/*/{missing[1]}*.py"))
    assert completed.returncode == 0, completed.stderr
    return completed.stdout + completed.stderr


def check_options(text: str, options: list[str]) -> None:
    for option in options:
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text), f"{option} is no option"


def check_script(command: str, _: Workspace) -> None:
    """`--help` of the script and its subcommand contains each option used."""
    script, *arguments = shlex.split(command)
    options = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    subcommand = arguments[:1] if script == "scripts/rollout.py" else []
    check_options(help_text(str(ROOT / script), *subcommand), options)


def check_environment(command: str, _: Workspace) -> None:
    """Each group has a lock."""
    for group in shlex.split(command)[2:]:
        assert (REQUIREMENTS / f"{group}.txt").is_file(), group


def check_example(command: str, _: Workspace) -> None:
    """The program exists; `make export-test` runs the commands of docs/export.md."""
    assert (ROOT / shlex.split(command)[1]).is_file(), command


def check_torchserve(command: str, _: Workspace) -> None:
    """TorchServe's `--help` contains each option used."""
    arguments = command.partition(".venv/bin/torchserve ")[2]
    check_options(help_text(str(ROOT / ".venv/bin/torchserve")), re.findall(r"--[\w-]+", arguments))


def check_docker(command: str, _: Workspace) -> None:
    """The image is a target of the Dockerfile, which knows the ports and variables."""
    dockerfile = DOCKERFILE.read_text()
    (target,) = set(re.findall(r"gradcam-serving:(\w+)", command))
    assert re.search(rf"AS {target}$", dockerfile, re.M)
    exposed = re.findall(r"^EXPOSE (.*)$", dockerfile, re.M)[0].split()
    for port in re.findall(r"--publish \d+:(\d+)", command):
        assert port in exposed
    for variable in re.findall(r"(?:--env |ENV )(\w+)=", command):
        assert variable.startswith("TS_") or re.search(rf"\b{variable}=", dockerfile), variable
    check_options(
        "--rm --publish --stop-timeout --read-only --tmpfs --cap-drop --security-opt --memory --cpus --volume --env "
        "--gpus --tag --file",
        re.findall(r"--[\w-]+", command),
    )


def check_kubectl(command: str, page: Path) -> None:
    """`kubectl kustomize` renders what is applied; other objects are in the manifests or in a block of the page."""
    if overlay := re.fullmatch(r"kubectl apply -k (\S+)", command):
        assert kustomized(overlay[1])
    elif service := re.fullmatch(r"kubectl port-forward service/(\S+) (\d+):(\d+)", command):
        (found,) = (
            document
            for document in kustomized("kubernetes/overlays/cpu")
            if (document["kind"], document["metadata"]["name"]) == ("Service", service[1])
        )
        assert int(service[3]) in [port["port"] for port in found["spec"]["ports"]]
    else:
        documents = [yaml.safe_load(block.text) for block in BLOCKS if (block.page, block.language) == (page, "yaml")]
        if file := re.fullmatch(r"kubectl apply -f (\S+)", command):
            assert f"`{file[1]}`" in page.read_text()
            assert documents
        else:
            match = re.fullmatch(r"kubectl get (\w+) (\w+)", command)
            assert match is not None, command
            assert match.groups() in [(entry["kind"].lower(), entry["metadata"]["name"]) for entry in documents]


def kustomized(folder: str) -> list[dict[str, Any]]:
    completed = subprocess.run(
        [tool("kubectl"), "kustomize", folder], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stderr
    return [document for document in yaml.safe_load_all(completed.stdout) if document]


def check_pytest(command: str, _: Workspace) -> None:
    """The paths exist, and a test's name contains the word after `-k`."""
    arguments = shlex.split(command)[3:]
    paths = [ROOT / argument for argument in arguments if "/" in argument]
    assert all(path.exists() for path in paths), command
    if "-k" in arguments:
        files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("test_*.py"))]
        word = arguments[arguments.index("-k") + 1]
        assert any(re.search(rf"def test_\w*{word}", file.read_text()) for file in files), command


# The first pattern that a command begins with decides.
CHECKS: list[tuple[str, Callable[[str, Workspace], None]]] = [
    (r"make demo$", run_demo),
    (rf"{SERVE}$|scripts/serve\.py ", run_serve),
    (r"make ", check_make),
    (r"curl .*http://127\.0\.0\.1:80\d\d/", run),
    (r"scripts/(predict|reproduce|healthcheck|build_mar|settings)\.py ", run),
    (r"scripts/\w+\.py ", check_script),
    (r"python3 scripts/environment\.py ", check_environment),
    (r"python -m lens$", run_page),
    (r"python3 -m zipfile |\.venv/bin/python -m grpc_tools\.protoc ", run),
    (r"mkdir -p build/\w+$|rm -rf build/\w+$|cp metrics\.yaml build/|export JAVA_HOME=", run),
    (r"sed .* build/|\(cd build/edit && python3 -m zipfile ", run),
    (r"\(cd build/rollout && \.\./\.\./\.venv/bin/torchserve ", check_torchserve),
    (r"docker (run|build) |printf .*\| docker build |kind load docker-image ", check_docker),
    (r"\.venv/bin/python -m pytest ", check_pytest),
    (r"\.venv/bin/python examples/export/", check_example),
]


def test_unknown_commands_and_options_are_found(workspace: Workspace) -> None:
    """Negative controls: an error in the documentation fails its check."""
    with pytest.raises(pytest.fail.Exception, match="no kind of command"):
        check_of("scripts/nothing")
    wrong = (
        "scripts/evaluate.py photos --layer conv1",
        "scripts/rollout.py switch --model mine --too 2.0",
        "make serv",
        "make serve MODELS=resnet18",
        "python3 scripts/environment.py runtimes",
        "docker run --publish 8084:8084 gradcam-serving:cpu",
    )
    for command in wrong:
        with pytest.raises(AssertionError):
            check_of(command)(command, workspace)


def is_kubectl(command: Block) -> bool:
    return command.text.startswith("kubectl ")


@functools.cache
def check_of(command: str) -> Callable[[str, Workspace], None]:
    """Return what runs or checks a command."""
    for pattern, check in CHECKS:
        if re.match(pattern, command):
            return check
    pytest.fail(f"no kind of command, see CHECKS: {command}")


def starts_another_server(command: Block) -> bool:
    """Return whether a command starts a server with other options than the first one."""
    return command.text.startswith("scripts/serve.py --")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(entry, marks=pytest.mark.full if starts_another_server(entry) else ())
        for entry in COMMANDS
        if not is_kubectl(entry)
    ],
    ids=lambda entry: entry.id,
)
def test_command(command: Block, workspace: Workspace) -> None:
    check_of(command.text)(command.text, workspace)


@pytest.mark.parametrize(
    "command", [entry for entry in COMMANDS if starts_another_server(entry)], ids=lambda entry: entry.id
)
def test_options_of_another_server_exist(command: Block) -> None:
    options = [argument for argument in shlex.split(command.text) if argument.startswith("--")]
    check_options(help_text(str(ROOT / "scripts" / "serve.py")), options)


@pytest.mark.parametrize("command", [entry for entry in COMMANDS if is_kubectl(entry)], ids=lambda entry: entry.id)
def test_kubectl_command(command: Block) -> None:
    check_kubectl(command.text, command.page)


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.id)
def test_python_block(block: Block, workspace: Workspace) -> None:
    (workspace.folder / "block.py").write_text(workspace.local(block.text))
    if "build/grpc" in block.text and not (workspace.folder / "build" / "grpc").exists():
        for command in COMMANDS:
            if "build/grpc" in command.text:
                run(command.text, workspace)
    completed = workspace.shell(".venv/bin/python block.py")
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "Egyptian cat" in completed.stdout


@pytest.mark.parametrize("block", NODE, ids=lambda block: block.id)
def test_javascript_block(block: Block, workspace: Workspace) -> None:
    version = workspace.shell("node --version").stdout
    if not version or int(version[1:].partition(".")[0]) < NODE_VERSION:
        pytest.skip(f"needs Node {NODE_VERSION} or newer, found {version.strip() or 'none'}")
    (workspace.folder / "block.mjs").write_text(workspace.local(block.text))
    completed = workspace.shell("node block.mjs")
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "Egyptian cat" in completed.stdout


def test_the_mask_is_the_map_in_gray_levels(workspace: Workspace) -> None:
    (command,) = (entry for entry in COMMANDS if "build/mask.png" in entry.text)
    run(command.text, workspace)
    mask = np.asarray(Image.open(workspace.folder / "build" / "mask.png"))
    url = f"http://127.0.0.1:{workspace.port}/predictions/efficientnet_lite0"
    response = json.loads(workspace.shell(f"curl -sfT {EXAMPLE_IMAGE} {url}").stdout)
    height, width = response["image"]["height"], response["image"]["width"]
    assert response["image"]["region"] == [0, 0, width, height]
    heatmap = np.asarray(response["explanations"][0]["heatmap"], dtype=np.float32)
    expected = 255 * cv2.resize(heatmap, (width, height))  # (h, w) → (H, W)
    assert mask.shape == (height, width)
    # Fractions are cut off, and the response has six decimals.
    assert np.abs(mask - expected).max() < 1.01


def test_the_commands_with_base64_work_for_photos_of_a_camera(workspace: Workspace) -> None:
    photo = workspace.folder / "photo.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (PHOTO_SIDE // 8, PHOTO_SIDE // 8, 3), np.uint8)
    Image.fromarray(noise).resize((PHOTO_SIDE, PHOTO_SIDE)).save(photo, quality=90)
    assert len(base64.b64encode(photo.read_bytes())) > 4 * 2**17
    with_base64 = [command.text for command in COMMANDS if "base64 -w 0" in command.text]
    assert len(with_base64) >= 3
    for command in with_base64:
        completed = workspace.shell(workspace.local(command).replace("examples/chelsea.jpg", photo.name))
        assert completed.returncode == 0, completed.stderr
        assert "error" not in json.loads(completed.stdout)


# ----------------------------------------------------------------------------- README's response


def test_the_readme_shows_the_response(workspace: Workspace) -> None:
    (shown,) = (block for block in BLOCKS if (block.page.name, block.language) == ("README.md", "json"))
    (command,) = (command for command in COMMANDS if command.page == shown.page and "json.tool" in command.text)
    response = json.loads(workspace.shell(workspace.local(command.text)).stdout)
    expected = json.loads(re.sub(r", …", "", shown.text))
    for ours, theirs in zip(response["predictions"], expected["predictions"], strict=False):
        assert (ours["index"], ours["label"]) == (theirs["index"], theirs["label"])
        assert ours["probability"] == pytest.approx(theirs["probability"], abs=1e-4)
    (explanation,), (theirs,) = response["explanations"], expected["explanations"]
    assert explanation.keys() == theirs.keys()
    assert explanation["heatmap"][0] == pytest.approx(theirs["heatmap"][0], abs=1e-4)
    for key in ("index", "label", "evidence", "peak"):
        assert explanation[key] == theirs[key]
    assert {key: response[key] for key in ("method", "layer", "image")} == {
        key: expected[key] for key in ("method", "layer", "image")
    }


# ----------------------------------------------------------------------------- what needs no server


def test_torchserve_has_the_documented_settings() -> None:
    spec = importlib.util.find_spec("ts")
    assert spec is not None
    assert spec.submodule_search_locations
    with zipfile.ZipFile(Path(spec.submodule_search_locations[0]) / "frontend" / "model-server.jar") as jar:
        config_manager = jar.read("org/pytorch/serve/util/ConfigManager.class")
    settings = [line for block in BLOCKS if block.language == "properties" for line in block.text.splitlines()]
    assert settings
    for line in settings:
        assert line.partition("=")[0].encode() in config_manager, line


def spans(page: Path) -> list[str]:
    """Return the code spans outside of fenced blocks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


# The changelog also names what is gone.
@pytest.mark.parametrize("page", [page for page in LINKED if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_commands_in_the_text_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for span in spans(page):
        for target in re.findall(r"^make ([a-z-]+)", span):
            assert re.search(rf"^{target}:", makefile, re.M), span
        for variable in re.findall(r"\b([A-Z0-9_]+)=", span) if span.startswith("make ") else []:
            assert f"$({variable})" in makefile, span
        for path in re.findall(
            r"^((?:scripts|tools|tests|handler|kubernetes|docker|lens|docs|requirements)/[\w./-]+)", span
        ):
            assert (ROOT / path).exists(), span
        if script := re.match(r"(?:scripts/)?(\w+\.py)(?: ([a-z]+))?(?= ).* --", span):
            subcommand = [script[2]] if script[1] == "rollout.py" and script[2] else []
            options = re.findall(r"(?<= )--[a-z][\w-]*", span)
            check_options(help_text(str(ROOT / "scripts" / script[1]), *subcommand), options)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_module_map_is_complete() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    lines = text[text.index("  gradcam/\n") : text.index("\nscripts/ ")].splitlines()[1:]
    names = {line.split()[0] for line in lines}
    existing = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in (ROOT / "handler" / "gradcam").iterdir()
        if not path.name.startswith("__")
    }
    assert names == existing


def test_the_readme_links_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f"](docs/{page.name})" in readme, page.name
