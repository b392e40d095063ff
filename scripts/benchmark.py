#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Measures servers: TorchServe's stock classifier, Grad-CAM as others write it, and ours.

entries → Server → closed loop → Measurement → ratios within a round → table, JSON, chart

All serve the same ResNet-18 and answer the same pictures, one server after the other in random order, round after
round. Ratios are taken within a round, so that what else the machine does meets all alike. The clients run on the
same machine and take their share of it, the same of everybody's.
"""

import sys

from tools.benchmarks.servers import main

if __name__ == "__main__":
    sys.exit(main())
