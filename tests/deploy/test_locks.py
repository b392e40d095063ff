"""The locks in `requirements/` match `pyproject.toml` and each other; `make lint` runs these tests, too."""

from __future__ import annotations

import re
import sys
from itertools import combinations
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.paths import REQUIREMENTS, ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
GROUPS: dict[str, list[str]] = {"runtime": PROJECT["project"]["dependencies"], **PROJECT["dependency-groups"]}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
# The clients have an environment of their own.
ALONE = {"clients"}
PYTHONS = [f"3.{minor}" for minor in range(10, 14)]


def locked(group: str, python: str) -> dict[str, str]:
    """Return the versions of a lock by package, for Linux and a version of Python."""
    environment: dict[str, Any] = {
        **default_environment(),
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
    }
    versions: dict[str, str] = {}
    for line in re.findall(r"^[\w.-]+==[^\\\n]+", (REQUIREMENTS / f"{group}.txt").read_text(), re.MULTILINE):
        requirement = Requirement(line.strip())
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (specifier,) = requirement.specifier
            versions[canonicalize_name(requirement.name)] = specifier.version
    return versions


def test_each_group_has_a_lock_and_each_lock_a_group() -> None:
    assert {path.stem for path in REQUIREMENTS.glob("*.txt")} == set(GROUPS)
    for group in GROUPS:
        assert f"requirements/{group}.txt" in MAKEFILE


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("group", GROUPS)
def test_a_lock_has_what_its_group_requires(group: str, python: str) -> None:
    versions = locked(group, python)
    for text in GROUPS[group]:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
            version = versions.get(canonicalize_name(requirement.name))
            assert version is not None, f"{text} is not in requirements/{group}.txt: make lock"
            assert requirement.specifier.contains(version, prereleases=True), (
                f"{text} is locked as {version}: make lock"
            )


@pytest.mark.parametrize("python", PYTHONS)
def test_locks_that_are_installed_together_agree(python: str) -> None:
    for one, other in combinations([group for group in GROUPS if group not in ALONE], 2):
        ours, theirs = locked(one, python), locked(other, python)
        different = {name: (ours[name], theirs[name]) for name in ours.keys() & theirs if ours[name] != theirs[name]}
        assert not different, f"{one} and {other}: {different}"
