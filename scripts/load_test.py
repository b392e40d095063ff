#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Loads a server with questions of all kinds, checks every answer, and fails where it is too slow or wrong.

    scripts/load_test.py [--url http://HOST:PORT] [--model resnet18] [--users 8] [--duration 30] [--pictures examples]

server → learn → Plan → users (Locust, in a process of its own) → Outcome → table, HTML report, exit status

Without `--url` it starts a server of its own. What is right is what the server says about each picture beforehand,
when it has nothing else to do: an answer with other labels, other maps or of another picture counts as an error.
"""

import sys

from tools.load.load_test import main

if __name__ == "__main__":
    sys.exit(main())
