#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Measure how faithful explanations are, on a folder of images.

    scripts/evaluate.py FOLDER [--archive model_store/resnet18.mar] [--methods gradcam,layercam] [--layers layer4]

Writes a table, two CSV files, and a plot to `build/evaluation/`.
"""

import sys

from tools.evaluation.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
