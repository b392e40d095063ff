"""Interpretation of TorchServe's output: whether a worker ended, and why a model could not be loaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tools.paths import BUILD

SHOWN_LINES = 30


def log_dir_of(port: int) -> Path:
    """Return where the command keeps the logs of the server with this inference port."""
    return BUILD / "logs" / str(port)


def last_lines(output: Sequence[str]) -> str:
    """Return the end of the output, indented for an error message."""
    return "\n".join(f"  {line}" for line in output[-SHOWN_LINES:])


def worker_ended(model: str, output: Sequence[str]) -> bool:
    """Return whether one of the model's workers has ended, according to TorchServe's output."""
    ended = re.compile(rf"Stopped Scanner - W-\d+-{re.escape(model)}_[^_]*-stdout")
    return any(ended.search(line) for line in output)


def load_failure(model: str, output: Sequence[str]) -> str:
    """Return why the model's worker ended: the exception first, then the worker's last lines.

    Args:
        model: name of the model.
        output: lines of TorchServe's output.
    """
    worker_line = re.compile(rf"W-\d+-{re.escape(model)}_[^_ ]*-std(?:out|err) MODEL_LOG - (.*)")
    text = "\n".join(match[1] for line in output if (match := worker_line.search(line)))
    *_, text = re.split(r"model_name: .*, batchSize: \d+\n", text)
    # After an ImportError in the handler, TorchServe assumes that the handler is missing and searches for one of its
    # own. The rest of the traceback is about that search.
    text, *_ = re.split(r"(?s)\n*During handling .*No module named 'ts\.torch_handler\.", text)
    # TorchServe logs any RuntimeError and then ends with a second one that carries no information.
    text, *_ = re.split(r"(?s)\nBackend worker process died\..*RuntimeError: 50\d - ", text)
    lines = text.split("\n")[-SHOWN_LINES:]
    reason = lines[-1] if "Traceback" in text else "its worker ended without an exception; out of memory?"
    return "\n  ".join([reason, *lines])
