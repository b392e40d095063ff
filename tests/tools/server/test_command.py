"""What `serve.py` prints once the server is ready."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tools.server.command import announce


def test_each_model_and_the_limit_of_pipelining_are_announced(capsys: pytest.CaptureFixture[str]) -> None:
    server: Any = SimpleNamespace(models=("one", "two"), inference_url="http://127.0.0.1:8080")
    announce(server)
    lines = capsys.readouterr().out.splitlines()
    for model in server.models:
        url = f"http://127.0.0.1:8080/predictions/{model}"
        assert f"{model} is ready: {url}" in lines
        assert any(line.startswith("  curl ") and line.endswith(url) for line in lines)
    assert any(line.startswith("Do not pipeline requests: ") and "HAProxy" in line for line in lines)
