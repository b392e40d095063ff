"""A process that explains images with an archive's own code; `worker_process.py` starts and feeds it.

    python worker.py DESCRIPTOR OPTIONS      in the folder of an unpacked archive

It is a separate process because the time limits of decoding work in a main thread only, and Ray calls its actors in
another thread; and because a crash, such as a fault in a decoder, must end neither the actor nor other images.

The socket DESCRIPTOR receives lists of images, each as bytes or as a file's path, and sends lists of rows, one for each
image, in the form of `actor.SCHEMA` without the path. The process ends when the socket is closed.

It runs with archives of any version, so it may use only names of `gradcam` that all versions have.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image

from gradcam import options
from gradcam.errors import InvalidRequest, RequestError, TooExpensive
from gradcam.message import Explanation, Prediction, Request, Result
from gradcam.options import Options
from gradcam.pipeline import MAX_FORWARD, Pipeline
from gradcam.settings import Settings

OutputRow = dict[str, Any]

# Of the weights' SHA-256 in the column `model`, as in the server's answers.
WEIGHTS_DIGITS = 12


def load(folder: Path) -> Pipeline:
    """Load an unpacked archive as the handler does."""
    model = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_text(encoding="utf-8"))["model"]
    config = yaml.safe_load((folder / model["configFile"]).read_text(encoding="utf-8"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = Settings.from_mapping(config["gradcam"]).without_client_limits()
    max_forward = config.get("batchSize") or MAX_FORWARD
    return Pipeline.load(folder, model["serializedFile"], settings, device, max_forward)


def identity(folder: Path, pipeline: Pipeline) -> OutputRow:
    """Return the column `model`; archives that do not know their weights' SHA-256 have None."""
    model = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_text(encoding="utf-8"))["model"]
    digest = getattr(pipeline.settings, "weights_sha256", None)
    return {"name": model["modelName"], "version": model["modelVersion"], "weights": digest and digest[:WEIGHTS_DIGITS]}


def check(pipeline: Pipeline, image_options: Options) -> None:
    """Explain a valid image with the options.

    Raises:
        RequestError: no image can be explained with these options.
    """
    file = io.BytesIO()
    Image.linear_gradient("L").save(file, "PNG")
    (result,) = results(pipeline, [Request(file.getvalue(), image_options)])
    if isinstance(result, RequestError):
        raise result


def explain(pipeline: Pipeline, images: list[bytes | str], image_options: Options) -> list[OutputRow]:
    """Return a row for each image."""
    requests = [request(pipeline, image, image_options) for image in images]
    answers = [
        result
        for start in range(0, len(requests), pipeline.max_forward)
        for result in results(pipeline, requests[start : start + pipeline.max_forward])
    ]
    # Other images of the batch may have slowed its decoding down; here, it has the processor for itself.
    for index, result in enumerate(answers):
        if isinstance(result, TooExpensive):
            (answers[index],) = results(pipeline, [requests[index]])
    return [row(result) for result in answers]


def request(pipeline: Pipeline, image: bytes | str, image_options: Options) -> Request | RequestError:
    """Return the request for an image; a file is read only slightly beyond the size limit."""
    if isinstance(image, bytes):
        return Request(image, image_options)
    try:
        with open(image, "rb") as file:
            return Request(file.read(pipeline.settings.max_image_bytes + 1), image_options)
    except (OSError, ValueError) as error:
        return InvalidRequest(f"Cannot read the file: {error}", "unreadable_file")


def results(pipeline: Pipeline, requests: list[Request | RequestError]) -> list[Result | RequestError]:
    """Run requests through the pipeline as the handler does."""
    with torch.inference_mode():
        forward = pipeline.inference(pipeline.preprocess(requests))
    with torch.enable_grad():
        return pipeline.results(pipeline.explain(forward))


def row(result: Result | RequestError) -> OutputRow:
    """Return the columns of a result; Parquet stores missing ones as null."""
    if isinstance(result, RequestError):
        return {"error": {"code": result.code, "message": str(result)}}
    return {
        "width": result.width,
        "height": result.height,
        "region": [result.region.left, result.region.top, result.region.right, result.region.bottom],
        "method": result.method,
        "layers": list(result.layers),
        "predictions": [prediction(entry) for entry in result.predictions],
        "explanations": [explanation(entry) for entry in result.explanations],
        "label": result.predictions[0].label,
        "probability": result.predictions[0].probability,
    }


def prediction(entry: Prediction) -> OutputRow:
    """Return an element of the column `predictions`."""
    return {"index": entry.index, "label": entry.label, "probability": entry.probability}


def explanation(entry: Explanation) -> OutputRow:
    """Return an element of the column `explanations`; archives built earlier have no strength, contrast and boxes."""
    versus, boxes = getattr(entry, "versus", None), getattr(entry, "boxes", None)
    return {
        **prediction(entry.prediction),
        "evidence": entry.evidence,
        "peak": None if entry.peak is None else list(entry.peak),
        "heatmap": entry.heatmap.tolist(),
        "strength": getattr(entry, "strength", None),
        "versus": versus and prediction(versus),
        "boxes": boxes and [{"box": list(found.rectangle), "area": found.area, "mean": found.mean} for found in boxes],
    }


def serve(connection: Connection, parameters: dict[str, Any]) -> None:
    """Report readiness or an error, then explain images until the connection is closed."""
    try:
        # Rows contain heatmaps as numbers, not images.
        image_options = replace(options.read(parameters), heatmap="grid", overlay="none")
        pipeline = load(Path.cwd())
        check(pipeline, image_options)
        model = identity(Path.cwd(), pipeline)
    except Exception as error:  # an archive can be broken in any way; the parent process reports it
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send(pipeline.settings.max_batch_seconds)
    while True:
        rows = explain(pipeline, connection.recv(), image_options)
        connection.send([row if "error" in row else {**row, "model": model} for row in rows])


def main(arguments: list[str]) -> None:
    """Run the process."""
    descriptor, parameters = arguments
    try:
        serve(Connection(int(descriptor)), json.loads(parameters))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        # The parent process, which removes the folder, may have been killed.
        shutil.rmtree(Path.cwd(), ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
