#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Draw the handler's modules and their imports in `docs/architecture.md`.

scripts/diagram.py
"""

import sys

from tools.diagram import main

if __name__ == "__main__":
    sys.exit(main())
