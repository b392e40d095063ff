"""Labels and Grad-CAM maps from one forward pass.

The way of a request, and the module that knows each step:

    request row ──wire──▶ Request ──images──▶ picture, model input (B, 3, H, W)
        ──split: trunk──▶ activations (B, C, h, w) ──split: head──▶ logits (B, K)
        ──split: head again, with gradients──▶ gradients (N, C, h, w)
        ──explainer, cam──▶ maps (N, h, w) ──overlay──▶ coloured picture ──wire──▶ reply

    errors     what may be wrong with a request, each with its HTTP status
    settings   what model-config.yaml says about the model
    layout     how a layer's output lies on the picture
    network    architecture, weights, labels, target layer
    pipeline   the steps above, for a batch in which any row may fail alone
"""
