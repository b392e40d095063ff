#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Measure what the explanation costs in an exported graph, in ONNX Runtime and OpenVINO.

    scripts/benchmark_graphs.py ARCHIVE... [--rounds 30] [--threads 1]

Needs the packages of the group `export`: `python3 scripts/environment.py runtime demo export`.
"""

import sys

from tools.benchmarks.graphs import main

if __name__ == "__main__":
    sys.exit(main())
