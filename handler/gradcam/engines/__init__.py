"""Engines: what runs the trunk.

    engine   accelerate: run the trunk on an engine (eager, compile, OpenVINO) after verifying it against the network
    onednn   convolutions with the following operations, packed for oneDNN; used by the engine `eager`

`engine` imports `onednn`, `gradcam.explain.cam`, `gradcam.settings`, and `gradcam.split.parts`; `onednn` imports no
other module of the package. The pipeline imports `engine`.
"""
