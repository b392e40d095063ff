"""Folders and files of the checkout, defined once."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HANDLER = ROOT / "handler"
MODEL_STORE = ROOT / "model_store"
EXAMPLES = ROOT / "examples"
EXAMPLE_IMAGE = EXAMPLES / "chelsea.jpg"
DOCS = ROOT / "docs"
BUILD = ROOT / "build"
