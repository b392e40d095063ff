#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Explains a folder or a table of pictures into Parquet, with Ray, on this machine or on a cluster.

    scripts/explain_dataset.py PICTURES --archive model_store/resnet18.mar [--output build/explained]

Every picture becomes one row, with its error where it has one. A run that was interrupted goes on when it is started
again: pictures that have a row are not done again. docs/bulk.md says more.
"""

import sys

from tools.bulk.explain_dataset import main

if __name__ == "__main__":
    sys.exit(main())
