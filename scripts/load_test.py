#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Load a server with all kinds of requests, check every answer, and fail if the server is too slow or wrong.

    scripts/load_test.py [--url http://HOST:PORT] [--model resnet18] [--users 8] [--duration 30] [--images examples]

Without `--url`, it starts a server. Writes an HTML report to `build/load-test/`.
"""

import sys

from tools.load.load_test import main

if __name__ == "__main__":
    sys.exit(main())
