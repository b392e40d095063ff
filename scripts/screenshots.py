#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Takes the pictures of the page in `docs/`: of a real browser, with answers of a real TorchServe.

Run by `make lens-screenshots`, which installs what it needs.
"""

import sys

from tools.lens.screenshots import main

if __name__ == "__main__":
    sys.exit(main())
