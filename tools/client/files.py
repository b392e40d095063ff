"""Image files on disk: which ones a command was given, and names for what it writes about them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


@dataclass(frozen=True)
class ImageFile:
    """A file to send, and the relative path with which the names of its overlays begin."""

    path: Path
    name: str


def find_images(inputs: Sequence[Path], output: Path) -> list[ImageFile]:
    """Collect files and the images in folders, each once, in order.

    Args:
        inputs: files of any name, and folders, which are searched recursively.
        output: where overlays go; a search of a folder that contains it skips it.

    Raises:
        FileNotFoundError: a path does not exist, or a folder has no image.
    """
    unique: dict[Path, Path] = {}
    for entry in inputs:
        for path in images_below(entry, output) if entry.is_dir() else [existing(entry)]:
            unique.setdefault(absolute(path), path)
    names = distinct_names(list(unique))
    return [ImageFile(path, name) for path, name in zip(unique.values(), names, strict=True)]


def existing(path: Path) -> Path:
    """Return the path if it exists.

    Raises:
        FileNotFoundError: it does not.
    """
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder: {path}")
    return path


def images_below(folder: Path, output: Path) -> list[Path]:
    """Return the images below a folder, sorted, without the overlays of earlier runs.

    Raises:
        FileNotFoundError: there is none.
    """
    absolute_output = absolute(output)
    skipped = absolute_output if absolute(folder) in absolute_output.parents else None
    files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    images = sorted(path for path in files if skipped not in absolute(path).parents)
    if not images:
        raise FileNotFoundError(f"no image in folder: {folder} (looked for *{', *'.join(sorted(SUFFIXES))})")
    return images


def absolute(path: Path) -> Path:
    """Return the path without `..`, leaving symbolic links as they are."""
    return Path(os.path.abspath(path))


def distinct_names(files: Sequence[Path]) -> list[str]:
    """Return distinct names: paths below the common folder, without suffix unless names would be equal."""
    common = os.path.commonpath([file.parent for file in files])
    full = [file.relative_to(common) for file in files]
    short = [file.with_suffix("") for file in full]
    return [str(name) for name in (short if len(set(short)) == len(short) else full)]
