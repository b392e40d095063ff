"""Running the page of `lens/`: `runner` is `scripts/open_lens.py`, which opens it on a new or a running TorchServe.

`screenshots` is `scripts/screenshots.py`, which takes the page's images in `docs/` and writes the README's
`example_figure`. May import `tools.archive`,
`tools.client` and `tools.server`; starts `python -m lens` as a process and imports nothing of it.
"""
