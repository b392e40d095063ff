"""The page's files: complete texts in both languages, and nothing inline or from other sites."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lens.app import STATIC

LANGUAGES = ("en", "de")
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in STATIC.iterdir() if path.is_file()}


def text_file(language: str) -> Path:
    return STATIC / "texts" / f"{language}.json"


def texts(language: str) -> dict[str, str]:
    entries: dict[str, str] = json.loads(text_file(language).read_text(encoding="utf-8"))
    return entries


def used_keys() -> set[str]:
    """Return the keys that page and report use; the prefix of computed ones, which ends in a dot."""
    keys: set[str] = set()
    for source in SOURCES.values():
        keys |= set(re.findall(r'data-text(?:-\w+)?="([\w.]+)"', source))
        for call in re.findall(r"\btext\(([^)]*)", source):
            keys |= set(re.findall(r'"([\w.]+)"', call.split("{")[0]))
        keys |= set(re.findall(r"`(\w+\.)\$\{", source))
    return keys


def test_both_languages_have_the_same_keys_and_placeholders() -> None:
    english, german = texts("en"), texts("de")
    assert list(english) == list(german)
    for key, content in english.items():
        assert set(re.findall(r"\{\w+\}", content)) == set(re.findall(r"\{\w+\}", german[key])), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_empty_or_defined_twice(language: str) -> None:
    assert all(content.strip() for content in texts(language).values())
    keys = re.findall(r'^  "([^"]+)":', text_file(language).read_text(encoding="utf-8"), re.M)
    assert len(keys) == len(set(keys))


def test_every_used_text_exists() -> None:
    known = set(texts("en"))
    missing = {key for key in used_keys() if key not in known and not any(name.startswith(key) for name in known)}
    assert missing == set()


def test_every_text_is_used() -> None:
    sources = "\n".join(SOURCES.values())
    prefixes = tuple(key for key in used_keys() if key.endswith("."))
    unused = {key for key in texts("en") if f'"{key}"' not in sources and not key.startswith(prefixes)}
    # The facts of a figure are named by the class of their element.
    assert unused - {"pointer", "peak", "colored", "region"} == set()


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_is_fetched_from_other_sites(name: str) -> None:
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", SOURCES[name]))
    assert addresses <= {"http://www.w3.org"}, "SVG's namespace is the only address"


@pytest.mark.parametrize("name", [name for name in SOURCES if name.endswith(".html")])
def test_nothing_is_inline(name: str) -> None:
    assert not re.search(r"\sstyle=|\son\w+=|<style|<script(?![^>]*\ssrc=)", SOURCES[name].replace("{{", "<!--"))
