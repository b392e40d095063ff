"""A process that answers pictures with an archive's own code; `dataset_engine.py` starts and feeds it.

    python explain_worker.py DESCRIPTOR OPTIONS      in the folder of an unpacked archive

It is a process because the limits on what decoding may take hold in a main thread only, and Ray calls its actors on
another one; and because what ends it, such as a fault in a decoder, ends neither the actor nor the other pictures.

Over the socket DESCRIPTOR come lists of pictures, each as bytes or as the path of a file, and go lists of rows, one for
each, in the form of `dataset_actor.SCHEMA` but for the path. When the socket closes, so does this.
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

Row = dict[str, Any]


def load(folder: Path) -> Pipeline:
    """Loads an unpacked archive as the handler does."""
    model = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_text(encoding="utf-8"))["model"]
    config = yaml.safe_load((folder / model["configFile"]).read_text(encoding="utf-8"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings, max_forward = Settings.from_mapping(config["gradcam"]), config.get("batchSize") or MAX_FORWARD
    return Pipeline.load(folder, model["serializedFile"], settings, device, max_forward)


def check(pipeline: Pipeline, asked: Options) -> None:
    """Tries the options on a picture that nothing is wrong with.

    Raises:
        RequestError: no picture could be answered with them.
    """
    drawn = io.BytesIO()
    Image.linear_gradient("L").save(drawn, "PNG")
    (result,) = results(pipeline, [Request(drawn.getvalue(), asked)])
    if isinstance(result, RequestError):
        raise result


def answer(pipeline: Pipeline, pictures: list[bytes | str], asked: Options) -> list[Row]:
    """Returns a row for each picture."""
    requests = [request(pipeline, picture, asked) for picture in pictures]
    answers = [
        result
        for start in range(0, len(requests), pipeline.max_forward)
        for result in results(pipeline, requests[start : start + pipeline.max_forward])
    ]
    # A batch may run out of time through some of its pictures; here there is time for each by itself.
    for index, result in enumerate(answers):
        if isinstance(result, TooExpensive):
            (answers[index],) = results(pipeline, [requests[index]])
    return [row(result) for result in answers]


def request(pipeline: Pipeline, picture: bytes | str, asked: Options) -> Request | RequestError:
    """Returns the request for a picture, which is read if need be, but no further than it may be long."""
    if isinstance(picture, bytes):
        return Request(picture, asked)
    try:
        with open(picture, "rb") as file:
            return Request(file.read(pipeline.settings.max_image_bytes + 1), asked)
    except (OSError, ValueError) as error:
        return InvalidRequest(f"the file cannot be read: {error}", "unreadable_file")


def results(pipeline: Pipeline, requests: list[Request | RequestError]) -> list[Result | RequestError]:
    """Takes requests through the pipeline, as the handler does."""
    with torch.inference_mode():
        forward = pipeline.inference(pipeline.preprocess(requests))
    with torch.enable_grad():
        return pipeline.results(pipeline.explain(forward))


def row(result: Result | RequestError) -> Row:
    """Returns the columns of a result; those that it does not have are null."""
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
    }


def prediction(entry: Prediction) -> Row:
    """Returns a member of `predictions`."""
    return {"index": entry.index, "label": entry.label, "probability": entry.probability}


def explanation(entry: Explanation) -> Row:
    """Returns a member of `explanations`."""
    return {
        **prediction(entry.prediction),
        "evidence": entry.evidence,
        "peak": None if entry.peak is None else list(entry.peak),
        "heatmap": entry.heatmap.tolist(),
    }


def serve(connection: Connection, given: dict[str, Any]) -> None:
    """Says that it is ready, or why it cannot be, then answers until the other side is gone."""
    try:
        # Rows have maps, and no pictures.
        asked = replace(options.read(given), heatmap="grid", overlay="none")
        pipeline = load(Path.cwd())
        check(pipeline, asked)
    except Exception as error:  # whatever an archive may have wrong with it; there is somebody to tell
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send(pipeline.settings.max_batch_seconds)
    while True:
        connection.send(answer(pipeline, connection.recv(), asked))


def main(arguments: list[str]) -> None:
    """Runs the process."""
    descriptor, given = arguments
    try:
        serve(Connection(int(descriptor)), json.loads(given))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        # Whoever would have removed the folder may have been killed.
        shutil.rmtree(Path.cwd(), ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
