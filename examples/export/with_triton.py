"""Classify and explain an image with Triton: with_triton.py HOST:PORT REPOSITORY/MODEL IMAGE OVERLAY."""

import sys
from pathlib import Path

import numpy as np
import tritonclient.http as triton
from PIL import Image

address, folder, path, overlay = sys.argv[1:]
name, labels = Path(folder).name, (Path(folder) / "labels.txt").read_text(encoding="utf-8").splitlines()
with triton.InferenceServerClient(address) as client:
    shapes = {entry["name"]: entry["shape"] for entry in client.get_model_metadata(name)["inputs"]}
    height, width = map(int, shapes["image"][1:3])
    image = Image.open(path).convert("RGB")
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))  # (H, W, 3)
    inputs = [triton.InferInput("image", [1, height, width, 3], "UINT8"), triton.InferInput("target", [1, 3], "INT64")]
    inputs[0].set_data_from_numpy(pixels[None])
    inputs[1].set_data_from_numpy(np.array([[-1, -1, -1]]))  # the three most probable classes
    result = client.infer(name, inputs)

for label in result.as_numpy("index")[0]:
    print(f"{labels[label]}: {result.as_numpy('probability')[0, label]:.3f}")

heatmap = np.uint8(160 * result.as_numpy("heatmap")[0, 0])
strongest = Image.fromarray(heatmap).resize(image.size, Image.Resampling.BILINEAR)
Image.composite(Image.new("RGB", image.size, "red"), image, strongest).save(overlay)
