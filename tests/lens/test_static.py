"""The page's files: texts in both languages, OpenCV's colours, nothing from elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lens import colormaps

STATIC = Path(colormaps.__file__).parent / "static"
LANGUAGES = ("en", "de")
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in STATIC.iterdir() if path.is_file()}


def texts(language: str) -> dict[str, str]:
    read: dict[str, str] = json.loads((STATIC / "texts" / f"{language}.json").read_text(encoding="utf-8"))
    return read


def used() -> set[str]:
    """The keys that page and report name; those put together there end in a dot."""
    keys: set[str] = set()
    for source in SOURCES.values():
        keys |= set(re.findall(r'data-text(?:-\w+)?="([\w.]+)"', source))
        for call in re.findall(r"\btext\(([^)]*)", source):
            keys |= set(re.findall(r'"([\w.]+)"', call.split("{")[0]))
        keys |= set(re.findall(r"`(\w+\.)\$\{", source))
    return keys


def test_both_languages_say_the_same() -> None:
    english, german = texts("en"), texts("de")
    assert list(english) == list(german)
    for key, said in english.items():
        assert set(re.findall(r"\{\w+\}", said)) == set(re.findall(r"\{\w+\}", german[key])), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_empty_and_none_is_twice(language: str) -> None:
    assert all(said.strip() for said in texts(language).values())
    keys = re.findall(r'^  "([^"]+)":', (STATIC / "texts" / f"{language}.json").read_text(encoding="utf-8"), re.M)
    assert len(keys) == len(set(keys))


def test_every_text_is_there() -> None:
    known = set(texts("en"))
    missing = {key for key in used() if key not in known and not any(name.startswith(key) for name in known)}
    assert missing == set()


def test_every_text_is_used() -> None:
    quoted = "\n".join(SOURCES.values())
    prefixes = tuple(key for key in used() if key.endswith("."))
    unused = {key for key in texts("en") if f'"{key}"' not in quoted and not key.startswith(prefixes)}
    # A figure's facts are named by the class of their element.
    assert unused - {"here", "peak", "shown", "region"} == set()


def test_colours_are_opencvs() -> None:
    assert SOURCES["colormaps.js"] == colormaps.render()


def test_the_first_and_last_colours_of_jet() -> None:
    (jet,) = re.findall(r"jet: \[(.*?)\]", SOURCES["colormaps.js"], re.S)
    digits = "".join(re.findall(r"[0-9a-f]{96}", jet))
    assert len(digits) == 256 * 6
    assert (digits[:6], digits[-6:]) == ("000080", "800000")


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_is_fetched_from_elsewhere(name: str) -> None:
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", SOURCES[name]))
    assert addresses <= {"http://www.w3.org"}, "the name space of SVG is the only address"


@pytest.mark.parametrize("name", [name for name in SOURCES if name.endswith(".html")])
def test_nothing_is_inline(name: str) -> None:
    assert not re.search(r"\sstyle=|\son\w+=|<style|<script(?![^>]*\ssrc=)", SOURCES[name].replace("{{", "<!--"))
