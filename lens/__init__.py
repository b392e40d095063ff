"""Lens: a page where people look at explanations, and the small server that it comes from.

    browser ──picture──▶ app ──picture──▶ TorchServe
    static/ ◀──answer, or what is wrong── app

    settings   what the environment says: addresses, tokens, limits
    app        serves the page and passes requests on
    colormaps  writes static/colormaps.js from OpenCV's tables

`python -m lens` serves it. The page's modules need no build step; `scripts/predict.py --report` packs the same ones
into a file.
"""
