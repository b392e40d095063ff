"""One HTTP request of a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True)
class TestRequest:
    """The body of a POST request and its headers."""

    __test__: ClassVar[bool] = False  # pytest would collect a class of this name

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
