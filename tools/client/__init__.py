"""Clients of a server. `client` is a library: `Client`, which returns `answers` and raises `errors`.

`predict` is `scripts/predict.py`: `files` finds its images, `table` prints its results, `html_report` writes them as a
page, `arguments` parses what several commands share. `rollout` is `scripts/rollout.py`, and `compare` its comparison of
two versions. May import `tools.paths`, `tools.ports`, `tools.sessions` and `tools.server`; never `gradcam` or torch.
"""
