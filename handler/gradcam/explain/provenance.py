"""Provenance: what made an overlay, written into the image file without changing a pixel."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass

import gradcam
from gradcam.options import Encoding

PNG_HEADER_BYTES = 8 + 25  # the signature and the chunk IHDR, which must be first
JPEG_START_BYTES = 2
APPLICATION_SEGMENT, COMMENT_SEGMENT = b"\xff\xe0", b"\xff\xfe"
MAX_LABEL_CHARACTERS = 200


@dataclass(frozen=True)
class Provenance:
    """What made an overlay: the model, the class and the method."""

    model: str
    version: str
    weights: str
    """The first digits of the weights' SHA-256."""
    index: int
    label: str
    probability: float
    method: str
    layers: tuple[str, ...]
    strength: float
    time: str
    """UTC, in ISO 8601."""
    versus: str = ""
    """The class that the explained one is contrasted with; empty without one."""

    @property
    def is_against(self) -> bool:
        """Whether the map shows evidence against the class instead of for it."""
        return self.method == "counterfactual"

    def entries(self) -> dict[str, str]:
        """Return texts by keyword; `Software` and `Creation Time` are PNG's own keywords."""
        entries = {
            "Software": f"gradcam-serving {gradcam.__version__}",
            "Creation Time": self.time,
            "Model": self.model,
            "Version": self.version,
            "Weights": self.weights,
            "Index": str(self.index),
            "Label": self.label[:MAX_LABEL_CHARACTERS],
            "Probability": f"{self.probability:.6g}",
            "Method": self.method,
            "Layer": ",".join(self.layers),
            "Strength": f"{self.strength:.6g}",
            "Evidence": "against the class" if self.is_against else "for the class",
        }
        return {**entries, **({"Versus": self.versus[:MAX_LABEL_CHARACTERS]} if self.versus else {})}


def embed(data: bytes, encoding: Encoding, provenance: Provenance) -> bytes:
    """Return an encoded image with its provenance: PNG text chunks, or a JPEG comment that is a JSON object."""
    return _embed_in_png(data, provenance) if encoding == "png" else _embed_in_jpeg(data, provenance)


def _embed_in_png(data: bytes, provenance: Provenance) -> bytes:
    chunks = b"".join(_text_chunk(keyword, text) for keyword, text in provenance.entries().items())
    return data[:PNG_HEADER_BYTES] + chunks + data[PNG_HEADER_BYTES:]


def _text_chunk(keyword: str, text: str) -> bytes:
    """Return an uncompressed iTXt chunk, whose text is UTF-8 without NUL (PNG specification, section 11.3.3.4)."""
    encoded = text.replace("\0", " ").encode("utf-8", errors="replace")
    content = b"iTXt" + keyword.encode("ascii") + b"\0\0\0\0\0" + encoded
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))


def _embed_in_jpeg(data: bytes, provenance: Provenance) -> bytes:
    """Insert a comment segment after the JFIF header, which must come first (ITU-T T.871, section 10.1)."""
    comment = json.dumps(provenance.entries()).encode("ascii")
    end = JPEG_START_BYTES
    if data[end : end + 2] == APPLICATION_SEGMENT:
        end += 2 + struct.unpack(">H", data[end + 2 : end + 4])[0]
    return data[:end] + COMMENT_SEGMENT + struct.pack(">H", len(comment) + 2) + comment + data[end:]
