"""An archive's network and its explanation as one graph, for runtimes that have no gradients.

graph          image and classes to probabilities and maps, as one module; its trace
decompositions backward operators as operators that runtimes have
methods        which methods a graph can hold
formats        the trace as an ONNX or OpenVINO file
runtimes       run a written file in ONNX Runtime or OpenVINO
verification   compare a written file with the pipeline
metadata       what a file says about itself
repository     folders that Triton and OpenVINO Model Server read
output         write all files or none
command        the command `scripts/export.py`
coverage       which architectures can be exported
"""
