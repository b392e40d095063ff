"""Archives of a small network; `make export-test` installs the packages that these tests need."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.support.exported import MakeArchive, tiny_archive

# These import packages of requirements/export.txt.
if importlib.util.find_spec("onnxscript") is None:
    collect_ignore = ["test_command.py", "test_coverage.py", "test_docs.py", "test_examples.py", "test_repository.py"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> MakeArchive:
    """Return a function that builds an archive of the tiny network, with options of `Build`."""
    return lambda **options: tiny_archive(tmp_path_factory.mktemp("tiny"), **options)


@pytest.fixture(scope="session")
def archive(tiny: MakeArchive) -> Path:
    return tiny()
