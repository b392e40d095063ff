"""Which image files a command was given, and what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.client.files import find_images


def write(path: str, content: bytes = b"image") -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content)
    return Path(path)


def test_images_come_in_order_and_once(folder: Path) -> None:
    for name in "fbhadgecji":
        write(f"in/{name}.png")
    inputs = [write("odd.name"), Path("in"), folder / "in/a.png", Path("odd.name")]
    images = find_images(inputs, Path("out"))
    assert [image.path for image in images] == [
        Path("odd.name"),
        *(Path(f"in/{name}.png") for name in "abcdefghij"),
    ]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["one/cat.jpg"], ["cat"]),
        (["one/cat.jpg", "two/cat.jpg"], ["one/cat", "two/cat"]),
        (["cat.jpg", "cat.png", "dog.png"], ["cat.jpg", "cat.png", "dog.png"]),
    ],
)
def test_equal_names_become_distinct(paths: list[str], names: list[str]) -> None:
    images = find_images([write(path) for path in paths], Path("out"))
    assert [image.name for image in images] == names


def test_output_folder_itself_can_be_searched() -> None:
    write("out/cat.jpg")
    assert [image.name for image in find_images([Path("out")], Path("out"))] == ["cat"]
