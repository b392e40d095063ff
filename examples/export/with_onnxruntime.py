"""Classify and explain an image with ONNX Runtime: with_onnxruntime.py MODEL.onnx IMAGE OVERLAY."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

model, path, overlay = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
labels = json.loads(about["gradcam_labels"])
height, width = json.loads(about["gradcam_preprocessing"])["input_size"]

image = Image.open(path).convert("RGB")
pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))  # (H, W, 3)
target = np.array([[-1, -1, -1]])  # the three most probable classes
probability, index, heatmap = session.run(
    ["probability", "index", "heatmap"], {"image": pixels[None], "target": target}
)
for label in index[0]:
    print(f"{labels[label]}: {probability[0, label]:.3f}")

strongest = Image.fromarray(np.uint8(160 * heatmap[0, 0])).resize(image.size, Image.Resampling.BILINEAR)
Image.composite(Image.new("RGB", image.size, "red"), image, strongest).save(overlay)
