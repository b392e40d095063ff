"""Folders that servers read: Triton's model repository, and OpenVINO Model Server's."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.export.graph import Explained

# Images in one batch, which Triton collects for at most so many microseconds.
MAX_BATCH, QUEUE_DELAY = 8, 1000
LABELS_FILE = "labels.txt"
TRITON_CONFIG = "config.pbtxt"
SERVER_CONFIG = "config.json"

_ON_GPU = "instance_group [ { count: 1, kind: KIND_GPU } ]\n"
INSTANCES = {
    "cpu": "instance_group [ { count: 1, kind: KIND_CPU } ]\n",
    "gpu": _ON_GPU,
    "tensorrt": _ON_GPU
    + 'optimization { execution_accelerators { gpu_execution_accelerator: [ { name: "tensorrt" } ] } }\n',
}
"""Lines of Triton's configuration, by where it runs the model."""


@dataclass(frozen=True)
class Model:
    """What a server's configuration says about a model."""

    name: str
    labels: Sequence[str]
    input_size: tuple[int, int]
    """Height and width of the images, in pixels."""
    map_size: tuple[int, int]
    """Height and width of the maps."""
    instances: str = "cpu"
    """One of `INSTANCES`."""

    @classmethod
    def of(cls, explained: Explained, instances: str) -> Model:
        """Return what a configuration says about an explained model."""
        pipeline, layout = explained.pipeline, explained.parts.layout
        input_size, map_size = pipeline.settings.input_size, (layout.height, layout.width)
        return cls(pipeline.served.name, pipeline.labels.names, input_size, map_size, instances)


def write_triton(folder: Path, model: Model) -> None:
    """Write `config.pbtxt` and the labels beside the model's version folder."""
    (folder / model.name / TRITON_CONFIG).write_text(triton_config(model), encoding="utf-8")
    labels = "".join(f"{' '.join(label.split())}\n" for label in model.labels)
    (folder / model.name / LABELS_FILE).write_text(labels, encoding="utf-8")


def triton_config(model: Model) -> str:
    """Return Triton's configuration, a text of the protocol buffer `ModelConfig`.

    Shapes leave out the images of a batch, which Triton collects from requests with equal numbers of targets.
    """
    height, width = model.input_size
    tensors = {
        "input": (("image", "UINT8", (height, width, 3)), ("target", "INT64", (-1,))),
        "output": (
            ("probability", "FP32", (len(model.labels),)),
            ("index", "INT64", (-1,)),
            ("heatmap", "FP32", (-1, *model.map_size)),
            ("strength", "FP32", (-1,)),
            ("evidence", "BOOL", (-1,)),
        ),
    }
    lines = [
        f"name: {json.dumps(model.name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {MAX_BATCH}",
        *(
            f'{kind} {{ name: "{name}", data_type: TYPE_{datatype}, dims: {list(shape)}'
            f"{f', label_filename: {json.dumps(LABELS_FILE)}' if name == 'probability' else ''} }}"
            for kind, entries in tensors.items()
            for name, datatype, shape in entries
        ),
        f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY} }}",
    ]
    return "\n".join(lines) + "\n" + INSTANCES[model.instances]


def write_model_server(folder: Path, model: Model) -> None:
    """Write OpenVINO Model Server's `config.json` for a container in which the folder is `/models`."""
    config = {"model_config_list": [{"config": {"name": model.name, "base_path": f"/models/{model.name}"}}]}
    (folder / SERVER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Layout:
    """A server's folder: NAME/1/ with the model's file, and configuration."""

    file_format: str
    file_name: str
    """Of the model's file, without its suffix."""
    write: Callable[[Path, Model], None]
    """Write the configuration into a folder that has the model's file."""


LAYOUTS = {
    "triton": Layout("onnx", "model", write_triton),
    "model-server": Layout("openvino", "model", write_model_server),
}
