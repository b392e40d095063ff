"""Activations and gradients to heatmaps.

    cam         formulas of the methods, one small function each
    explainer   maps for the (image, class) pairs of a batch, within limits of memory and time
    overlay     a map drawn over its image, and its encoding

`explainer` imports `cam` and `gradcam.split.parts`; `cam` imports no other module. `overlay` is the only module that
imports OpenCV. The pipeline imports all three.
"""
