"""Folders and files of the checkout, defined once."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
CONFIG_PROPERTIES = ROOT / "config.properties"
DOCKERFILE = ROOT / "Dockerfile"
DOCS = ROOT / "docs"
EXAMPLES = ROOT / "examples"
EXAMPLE_IMAGE = EXAMPLES / "chelsea.jpg"
HANDLER = ROOT / "handler"
METRICS_YAML = ROOT / "metrics.yaml"
MODEL_STORE = ROOT / "model_store"
REQUIREMENTS = ROOT / "requirements"
