"""The command `scripts/settings.py`: reads the settings of an archive, and changes them."""

from __future__ import annotations

import argparse
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from gradcam.settings import SettingsError
from tools.archive.configuration import BLOCK, configured, keys, parse
from tools.archive.packaging import CONFIG_FILE, deliver
from tools.archive.rewrite import read_config, rewrite


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Show the settings of an archive, or change them. A running server is not affected."
    )
    parser.add_argument("archive", type=Path, help="a .mar file that build_mar.py wrote")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="assignments",
        help="change a setting; the value in YAML, a list also as a,b. May be repeated",
    )
    parser.add_argument("--output", type=Path, help="write a new archive there (default: replace the archive)")
    return parser


def change(archive: Path, assignments: Sequence[str], output: Path | None = None) -> Path:
    """Write an archive with changed settings, atomically, and return its path.

    The fingerprint of the build is kept, so `build_mar.py --if-needed` with the same options keeps the changes.

    Raises:
        SettingsError: a setting is unknown, invalid, or describes the network in the archive.
    """
    config = configured(read_config(archive), parse(assignments))
    with tempfile.TemporaryDirectory(prefix="gradcam-settings-") as folder:
        content = yaml.safe_dump(config, sort_keys=False).encode()
        return deliver(rewrite(archive, Path(folder) / archive.name, {CONFIG_FILE: content}), output or archive)


def table(config: dict[str, Any]) -> str:
    """Return a table of all keys: value, default, meaning; an asterisk marks values that are not the default."""
    rows = [("  key", "value", "default", "meaning")]
    for key in keys().values():
        holder = config[BLOCK] if key.block else config
        value = holder.get(key.name, key.default)
        mark = "*" if key.default is not None and not _equal(value, key.default) else " "
        rows.append((f"{mark} {key.name}", shown(value), shown(key.default), key.meaning))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]) for row in rows
    )


def shown(value: Any) -> str:
    """Return a value as `--set` accepts it; `-` if there is none."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return "-" if value is None or value == "" else str(value)


def _equal(value: Any, default: Any) -> bool:
    return list(value) == list(default) if isinstance(default, tuple) else bool(value == default)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = argument_parser().parse_args(arguments)
    try:
        if options.assignments or options.output:
            print(change(options.archive, options.assignments, options.output))
        else:
            print(table(read_config(options.archive)))
    except SettingsError as error:
        print(f"settings: {error}", file=sys.stderr)
        return 1
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        print(f"settings: {options.archive} is not an archive of build_mar.py: {error}", file=sys.stderr)
        return 1
    return 0
