"""Raw pixels: an image without a file format."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RawPixels:
    """An RGB image as the bytes of its pixels, whose number is width × height × 3."""

    width: int
    height: int
    data: bytes
    """(height, width, 3), uint8."""

    def __len__(self) -> int:
        """Return the number of bytes."""
        return len(self.data)
