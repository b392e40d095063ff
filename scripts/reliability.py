#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Breaks a real TorchServe under load, one fault at a time, and reports what its clients saw.

archive → a server for every scenario of `faults.py` → Report → table, JSON

What counts: whether each request was answered, whether with its own answer, how long it took until the next good
answer, and what is left behind. The soak is the last scenario: minutes at saturation with one bad request in ten.
"""

import sys

from tools.load.reliability import main

if __name__ == "__main__":
    sys.exit(main())
