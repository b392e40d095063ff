"""The files that the Dockerfile copies suffice for what runs in the image and for building its archive."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tools.paths import ROOT

PACKAGES = Path(psutil.__file__).parents[1]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder /app."""
    root = tmp_path_factory.mktemp("app")
    copy_files("app", root, "/app")
    return root / "app"


def copy_files(stage: str, root: Path, working_directory: str = "/") -> None:
    """Copy what a stage of the Dockerfile copies from the checkout."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    (body,) = re.findall(rf"^FROM \S+ AS {stage}$(.*?)(?=^FROM |\Z)", text, re.MULTILINE | re.DOTALL)
    for line in re.findall(r"^COPY (?!--from)(.+)$", body, re.MULTILINE):
        *sources, target = line.split()
        folder = root / (target if target.startswith("/") else f"{working_directory}/{target}").lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for source in (ROOT / name for name in sources):
            if source.is_dir():
                shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder)


def run(*arguments: str, folder: Path, path: str = "") -> str:
    """Run Python in a folder, without the packages of the environment and without the checkout."""
    command = [sys.executable, "-S", *arguments]
    environment = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout


def test_the_health_check_needs_only_python(app: Path) -> None:
    assert "--model" in run(str(app / "healthcheck.py"), "--help", folder=app.parent)


def test_the_entry_point_starts(app: Path) -> None:
    code = "import entrypoint; print(entrypoint.environment()['TS_DEFAULT_WORKERS_PER_MODEL'])"
    assert int(run("-c", code, folder=app, path=str(PACKAGES))) >= 1


def test_the_page_starts(app: Path) -> None:
    code = "import lens.__main__, lens.app; print(lens.app.__file__)"
    assert run("-c", code, folder=app, path=str(PACKAGES)).strip() == str(app / "lens" / "app.py")


@pytest.mark.slow
def test_the_archive_can_be_built(tmp_path: Path) -> None:
    copy_files("archive", tmp_path)
    build = tmp_path / "build"
    path = f"{build / 'handler'}:{build}:{PACKAGES}"
    assert "--arch" in run(str(build / "scripts" / "build_mar.py"), "--help", folder=tmp_path, path=path)


def test_a_missing_file_is_noticed(app: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(app, tmp_path / "app")
    (copy / "tools" / "server" / "capacity.py").unlink()
    with pytest.raises(subprocess.CalledProcessError):
        run("-c", "import entrypoint", folder=copy, path=str(PACKAGES))
