#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Measure a GPU in one process: images per second with maps and without, and decoding of JPEGs.

    scripts/benchmark_gpu.py [--arch resnet18]

Writes a table, and JSON to `build/benchmark/`.
"""

import sys

from tools.benchmarks.gpu import main

if __name__ == "__main__":
    sys.exit(main())
