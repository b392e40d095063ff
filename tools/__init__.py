"""The code behind `scripts/`, one package per purpose; each command's `main` is here, and no module imports a script.

`paths`, `ports` and `sessions` define folders, ports and HTTP sessions once. Above them are `archive`, `server` and
`image`; then `client`; then `load`, `lens`, `evaluation`, `bulk` and `demo`; at the top `benchmarks`. Imports point
down only, and tests/tools/test_imports.py checks them.
"""
