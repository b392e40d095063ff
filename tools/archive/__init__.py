"""Model archives: `build` builds one from a `Build`, and `command` is `scripts/build_mar.py`.

`weights` loads a network's weights: as published (`published`, `download`), from a file (`state_dict`), or random.
`logits` finds the logits in the network's output, `preprocessing` chooses how images are prepared, and `summary` says
what was chosen.
`precision` chooses the precision of the trunk, with `calibration` (a folder of images), `quantization` (int8 with NNCF)
and `fidelity` (agreement with float32).
`packaging` writes an archive's files, runs torch-model-archiver, and delivers its file; `rewrite` copies an archive
with changes. `loading` loads an archive's network as its handler does. `configuration` describes the keys of
model-config.yaml, and `settings_command` is `scripts/settings.py`.
May import `gradcam` and `tools.paths`; imported by demo, lens, load tests, evaluation, export, and benchmarks.
"""
