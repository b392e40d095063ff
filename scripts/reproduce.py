#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Explain the images of a bundle again, and report whether the answers are equal.

    scripts/reproduce.py MANIFEST [--url URL] [--model NAME] [--version VERSION] [--tolerance 1e-5]

Exit status: 0 all equal, 1 some different, 2 some cannot be compared and none is different.
"""

import sys

from tools.client.reproduce import main

if __name__ == "__main__":
    sys.exit(main())
