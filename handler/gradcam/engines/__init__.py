"""Engines: what runs the trunk.

    engine   accelerate: run the trunk on an engine (eager, compile, OpenVINO) after verifying it against the network
    graph    OpenVINO's graphs of the trunk: conversion, compilation, quantized graphs in archives

`engine` imports `graph` and `gradcam.explain.cam`; both import `gradcam.images.model_input`, `gradcam.settings`, and
`gradcam.split.parts`. The pipeline imports `engine`.
"""
