"""Labels and Grad-CAM maps from one forward pass.

The path of a request, and the module of each step:

    payload ──protocols──▶ requests ──admission──▶ checked requests ──images──▶ model inputs (B, 3, H, W)
        ──engines: trunk──▶ activations (B, C, h, w) ──split: head──▶ logits (B, K)
        ──split: head again, with gradients──▶ gradients (N, C, h, w)
        ──explain──▶ maps (N, h, w) ──results──▶ results, with overlays ──protocols──▶ reply

    pipeline        the steps above, for a batch in which any request may fail alone
    admission       checks of a request against the model
    batch           what each step hands to the next
    forward_passes  which items share a forward pass, and in which order
    layer_splits    the network's splits by layer
    selection       classes to explain, once the logits are known
    batch_explainer  the maps of a batch, within limits of time
    turn            at most one worker runs an expensive request at a time
    results         logits and maps to results
    message         what travels between protocols and pipeline: Request, Result, Reply
    options         options of a request
    settings        settings of the model, from model-config.yaml
    errors          every error that a request can cause, with its HTTP status
    machine         cores and memory that this process may use

    protocols/      request bodies to requests, results to replies
    images/         decoding, orientation, limits, model input
    network/        architecture, weights, labels, logits, target layer
    split/          network to trunk and head, with verification
    engines/        what runs the trunk
    explain/        formulas of the methods, maps of (image, class) pairs, boxes, overlay

Imports point down: adapter, pipeline, its helpers, packages, errors. tests/gradcam/test_imports.py checks the rules.
"""

__version__ = "0.1.0"
