#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Build an archive, serve it, and classify and explain one photograph.

scripts/demo.py [--weights default]
"""

import sys

from tools.demo import main

if __name__ == "__main__":
    sys.exit(main())
