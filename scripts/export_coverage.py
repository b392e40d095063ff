#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Export every architecture of torchvision and samples of timm with seeded weights, and print a table.

    scripts/export_coverage.py [NAME...] [--output build/export-coverage.jsonl]

A run that was interrupted goes on where it ended.
"""

import sys

from tools.export.coverage import main

if __name__ == "__main__":
    sys.exit(main())
