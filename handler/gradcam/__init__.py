"""Labels and Grad-CAM maps from one forward pass.

The way of a request, and the module that knows each step:

    request row ──wire──▶ RequestGroup of Requests ──images──▶ picture, model input (B, 3, H, W)
        ──split: trunk──▶ activations (B, C, h, w) ──split: head──▶ logits (B, K)
        ──split: head again, with gradients──▶ gradients (N, C, h, w)
        ──explainer, cam──▶ maps (N, h, w) ──overlay──▶ coloured picture ──wire──▶ reply

    errors     what may be wrong with a request, each with its HTTP status
    options    what a request may ask for
    message    the types that travel: Request, Result, Reply
    plain      bytes, forms and JSON, one picture each; kserve: KServe's protocols, several pictures
    settings   what model-config.yaml says about the model
    jpeg       what a JPEG's markers say; nvjpeg: decoding on a GPU
    layout     how a layer's output lies on the picture
    engines    what runs the trunk; onednn: torch's own convolutions, packed
    network    architecture, weights, labels, target layer
    machine    how many cores and how much memory there are
    pipeline   the steps above, for a batch in which any row may fail alone
"""

__version__ = "0.1.0"
