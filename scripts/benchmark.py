#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Measure servers: TorchServe's stock classifier, Grad-CAM as others write it, and this project.

    scripts/benchmark.py [--rounds 3] [--seconds 4] [--variants]

Writes a table, JSON, and a chart to `build/benchmark/`.
"""

import sys

from tools.benchmarks.servers import main

if __name__ == "__main__":
    sys.exit(main())
