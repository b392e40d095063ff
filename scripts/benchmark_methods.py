#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Measure what an explanation costs, against the plain forward pass and against other libraries.

    scripts/benchmark_methods.py [--arch resnet18] [--device cpu] [--rounds 30]

Writes a table and JSON to `build/benchmark/`.
"""

import sys

from tools.benchmarks.methods import main

if __name__ == "__main__":
    sys.exit(main())
