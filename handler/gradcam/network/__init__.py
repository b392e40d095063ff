"""The network that is served and explained.

    architecture   build a network by name (torchvision, EfficientNet-Lite0, timm) or from a Python file
    weights        load and check weights
    logits         output of the network as logits; probabilities
    labels         class names; a request's class to its index
    target_layer   the default target layer; check a layer's name
    layout         how a layer's output lies on the image: channels first, channels last, or tokens

`architecture` defines `NetworkError`, which `weights`, `labels`, and `target_layer` import; `target_layer` also imports
`layout`. From outside the package they import `gradcam.errors`, and `logits` imports `gradcam.settings`.
"""
