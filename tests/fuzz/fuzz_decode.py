"""Fuzz image decoding and request parsing: `make fuzz`, or

    python tests/fuzz/fuzz_decode.py [--seconds 60]

Atheris searches for new paths through Pillow's plugins and the parsers, starting from the small files of `hostile.py`.
An input fails if it gives neither an image nor a `RequestError`, or exceeds the limits on time or memory. Failing
inputs are written to `build/fuzz/`.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import sys
import time
from typing import Any

import numpy as np

from tools.paths import ROOT

FOLDER = ROOT / "build" / "fuzz"

try:
    import atheris
except ImportError:
    sys.exit("fuzzing needs atheris, which is not installed: use Python 3.11 or newer on Linux x86-64")

with atheris.instrument_imports(include=["gradcam", "PIL"]):
    from gradcam.errors import RequestError
    from gradcam.images import jpeg
    from gradcam.images.decoding import decode
    from gradcam.message import Request, ServedModel
    from gradcam.protocols import dispatch
    from gradcam.protocols.dispatch import Payload
    from tests.support import hostile
    from tests.support.settings import settings

# Low limits: sizes invented by the fuzzer are rejected early.
SETTINGS = settings(max_image_pixels=1_000_000, max_decode_seconds=2)
SECONDS_PER_INPUT = 5
HANG_SECONDS = 60
MEGABYTES = 1024
LONGEST = 16384
MODEL = ServedModel("hats", "1.0", "0123456789ab")
SMALL = ("1 × 1", "png 2^31 - 1", "gif 65,535 background", "webp 16,383", "bmp 2^31 - 1", "tiff 2^32 - 1", "zip")
# The first byte selects the code under test.
TO_DECODER, TO_PARSER = b"P", b"J"


def check_decoder(data: bytes) -> None:
    """Decode an image; only a `RequestError` is an acceptable failure."""
    jpeg.as_baseline(data)
    try:
        image = decode(data, SETTINGS).image
    except RequestError as error:
        check_error(error)
        return
    assert image.mode == "RGB"
    assert 0 < image.width * image.height <= SETTINGS.max_image_pixels
    assert np.asarray(image).shape == (image.height, image.width, 3)


def check_parser(data: bytes) -> None:
    """Parse bytes as a JSON body; render the errors of a request that was rejected entirely."""
    group = dispatch.parse(Payload(data, "application/json"), MODEL, 4, 2**20)
    for request in group.requests:
        assert isinstance(request, Request | RequestError)
        if isinstance(request, RequestError):
            check_error(request)
    if all(isinstance(request, RequestError) for request in group.requests):
        errors: list[Any] = list(group.requests)
        reply = dispatch.render(group, errors, 2**30)
        assert 400 <= reply.status < 500
        assert json.loads(reply.body)["error"]["code"] == errors[0].code


def check_error(error: RequestError) -> None:
    """Check the status and the length of an error's group."""
    assert 400 <= error.status < 500
    assert 0 < len(str(error)) < 600


def check(data: bytes) -> None:
    """Check one input and its time."""
    # libFuzzer's own timeout would use the signal that the decoder needs for its time limit.
    faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
    start = time.monotonic()
    check_one(data)
    assert time.monotonic() - start < SECONDS_PER_INPUT
    faulthandler.cancel_dump_traceback_later()


def check_one(data: bytes) -> None:
    """Run the code that the first byte selects."""
    if data[:1] == TO_PARSER:
        check_parser(data[1:])
    else:
        check_decoder(data[1:])


def seeds() -> dict[str, bytes]:
    """Return the initial inputs: small files of every format, malicious files, and JSON bodies."""
    files = {name: TO_DECODER + data for name, data in hostile.valid().items()}
    files |= {name: TO_DECODER + hostile.CORPUS[name].make() for name in SMALL}
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": ["AAAA"], "parameters": {"topk": "3"}}
    bodies = [
        {"image": "AAAA", "topk": 3, "targets": [1, "tabby"], "method": "gradcam", "layer": "a,b", "smooth": True},
        {
            "instances": [{"image": {"b64": "AAAA"}, "alpha": 0.5}, "AAAA"],
            "parameters": {"explain": 2, "heatmap": "none"},
        },
        {
            "inputs": [tensor],
            "parameters": {"overlay": "png", "colormap": "hot"},
            "outputs": [{"name": "index"}],
            "id": "7",
        },
    ]
    return files | {f"body {number}": TO_PARSER + json.dumps(body).encode() for number, body in enumerate(bodies)}


def main() -> None:
    """Run the fuzzer for a limited time."""
    parser = argparse.ArgumentParser(description="Fuzz image decoding and request parsing with atheris.")
    parser.add_argument("--seconds", type=int, default=60, help="duration (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random numbers (default: %(default)s)")
    options = parser.parse_args()
    corpus = FOLDER / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for name, data in seeds().items():
        (corpus / name.replace(" ", "-")).write_bytes(data)
    arguments = {
        "max_total_time": options.seconds,
        "seed": options.seed,
        "timeout": 0,
        "rss_limit_mb": MEGABYTES,
        "max_len": LONGEST,
        "artifact_prefix": f"{FOLDER}/",
        "print_final_stats": 1,
    }
    atheris.Setup([sys.argv[0], *(f"-{name}={value}" for name, value in arguments.items()), str(corpus)], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
