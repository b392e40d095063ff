#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Show the settings of an archive, or change them.

scripts/settings.py ARCHIVE [--set KEY=VALUE …] [--output FILE]
"""

import sys

from tools.archive.settings_command import main

if __name__ == "__main__":
    sys.exit(main())
