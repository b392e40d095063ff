#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Take the screenshots of the page in `docs/`, in a real browser with answers of a real TorchServe.

    scripts/screenshots.py

`make lens-screenshots` runs it after installing what it needs.
"""

import sys

from tools.lens.screenshots import main

if __name__ == "__main__":
    sys.exit(main())
