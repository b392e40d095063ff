#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Break a real TorchServe under load, one fault at a time, and report what its clients saw.

    scripts/reliability.py [--only worker-killed] [--soak 300]

Writes a table, and JSON to `build/reliability/`.
"""

import sys

from tools.load.reliability import main

if __name__ == "__main__":
    sys.exit(main())
