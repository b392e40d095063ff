#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Check that a server can classify and explain: send a test image and inspect the response.

    scripts/healthcheck.py --model resnet18 [--url http://127.0.0.1:8080] [--timeout 10]

TorchServe's own `/ping` reports "Healthy" before any model is loaded, and while a model's worker is dead. This needs
nothing but Python, so that it runs in the serving image. Exit status: 0 it can, 1 it cannot, 2 wrong usage.
"""

import sys
from pathlib import Path

# A probe runs this with any Python, outside the checkout's environment.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.server.healthcheck import main

if __name__ == "__main__":
    sys.exit(main())
