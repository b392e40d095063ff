"""Clients of a server: a library, and the commands `predict.py`, `reproduce.py` and `rollout.py`.

The library is `client` and `async_client`: `Client` and `AsyncClient`, which return `answers` and raise `errors`;
`endpoint` is what both have in common.

`predict` is `scripts/predict.py`: `files` finds its images, `explained` has them explained, `table` and `records` print
results, `html_report` writes them as a page, `bundle` as files that `reproduce`, which is `scripts/reproduce.py`,
compares with new answers. `expected` reads the classes that images should have. `arguments` parses what several
commands share. `rollout` is `scripts/rollout.py`, and
`compare` its comparison of two versions.

May import `tools.paths`, `tools.ports`, `tools.sessions`, `tools.server` and `lens.report`; never `gradcam` or torch.
"""
