"""Classify and explain an image with OpenVINO: with_openvino.py MODEL.xml IMAGE OVERLAY."""

import json
import sys

import numpy as np
import openvino
from PIL import Image

model, path, overlay = sys.argv[1:]
network = openvino.Core().read_model(model)
labels = json.loads(network.get_rt_info("gradcam_labels").astype(str))
height, width = json.loads(network.get_rt_info("gradcam_preprocessing").astype(str))["input_size"]
compiled = openvino.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

image = Image.open(path).convert("RGB")
pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))  # (H, W, 3)
target = np.array([[-1, -1, -1]])  # the three most probable classes
outputs = compiled({"image": pixels[None], "target": target})
for label in outputs["index"][0]:
    print(f"{labels[label]}: {outputs['probability'][0, label]:.3f}")

strongest = Image.fromarray(np.uint8(160 * outputs["heatmap"][0, 0])).resize(image.size, Image.Resampling.BILINEAR)
Image.composite(Image.new("RGB", image.size, "red"), image, strongest).save(overlay)
