#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Explain a folder or a table of images into Parquet, with Ray, on this machine or on a cluster.

    scripts/explain_dataset.py FOLDER|TABLE --archive model_store/resnet18.mar [--output build/explained]

Every image becomes one row, which contains its error if it has one. An interrupted run continues when the command is
started again. See docs/bulk.md.
"""

import sys

from tools.bulk.explain_dataset import main

if __name__ == "__main__":
    sys.exit(main())
