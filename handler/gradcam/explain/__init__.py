"""Activations and gradients to heatmaps.

    cam         formulas of the methods, one small function each
    explainer   maps for the (image, class) pairs of a batch, within limits of memory and time
    boxes       rectangles around the parts of a map that reach a share of its maximum
    overlay     a map drawn with its image, and its encoding
    caption     a strip of text and legend below an overlay
    provenance  model, class and method, written into an encoded overlay

`explainer` imports `cam` and `gradcam.split.parts`; `overlay` imports `boxes`, and `caption` imports `overlay` and
`provenance`; `cam` imports no other module. Only `boxes` and `overlay` import OpenCV. The pipeline imports `cam` and
`explainer`, `results` imports the others.
"""
