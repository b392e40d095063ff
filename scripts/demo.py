#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Everything once: weights, archive, server, and one photograph classified and explained."""

import sys

from tools.demo import main

if __name__ == "__main__":
    sys.exit(main())
