#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Sends pictures to the server, prints what it sees in them and writes what it looked at as overlays.

paths → find_pictures → Picture → explain → Answer → save_overlays → Result → print_table, Report

What is wrong with one picture is a `PictureError` and becomes that picture's row in the table; what makes
every further request pointless is a `ServerError` and ends the run.
"""

import sys

from tools.client.predict import main

if __name__ == "__main__":
    sys.exit(main())
