"""Lens: a page that shows explanations, and the small server that delivers it.

    browser ──image──▶ endpoints ──image──▶ torchserve ──▶ TorchServe
    static/ ◀──response or error── endpoints

    settings    environment variables: addresses, tokens, limits
    errors      what goes wrong between browser and TorchServe, and how it is reported
    torchserve  client of TorchServe's inference and management APIs
    endpoints   what the page requests
    report      the page of a report, with the modules of static/ inside
    headers     security headers of every response
    app         puts these together
    colormaps   writes static/colormaps.js from OpenCV's tables

Imports only point up this list. `python -m lens` serves the page. Its JavaScript modules need no build step;
A report packs the same ones into
one file: the page's own, and that of `scripts/predict.py --report`. Nothing here imports the handler.
"""
