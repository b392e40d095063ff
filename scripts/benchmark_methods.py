#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Measures what an explanation costs: against the plain forward pass, and against the peers' libraries.

contests → interleaved → seconds → compare → Row → table, JSON

Everybody gets the same normalised images and has to give the prediction and the map of the predicted class. A round
runs every contestant once, in random order, and each ratio is taken within a round, so that what else the machine does
meets all alike. Seconds are kept in the JSON, but mean little on a machine that is not idle.
"""

import sys

from tools.benchmarks.methods import main

if __name__ == "__main__":
    sys.exit(main())
