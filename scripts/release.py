#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Commit and tag a release of this checkout, and write its files to build/release.

    scripts/release.py 0.2.0

`make release VERSION=0.2.0` lints and tests before.
"""

import sys

from tools.release import main

if __name__ == "__main__":
    sys.exit(main())
