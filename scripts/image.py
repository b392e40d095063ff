#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Build the serving image with Docker if its engine runs, else with podman.

scripts/image.py [--target cpu|gpu] [--tag gradcam-serving:cpu]
"""

import sys

from tools.image.container import main

if __name__ == "__main__":
    sys.exit(main())
