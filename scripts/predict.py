#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Send images to a server, print the classes, and write overlays that show the evidence.

    scripts/predict.py IMAGE|FOLDER... [--url http://127.0.0.1:8080] [--model resnet18] [--header NAME:VALUE]
        [--targets CLASS,...] [--explain N] [--topk N] [--method METHOD] [--layer NAME] ...
        [--output build/overlays | --bundle DIR] [--report FILE] [--json | --csv]

`--help` lists all options. Exit status: 0 all images answered, 1 some failed or no server, 2 wrong usage.
"""

import sys

from tools.client.predict import main

if __name__ == "__main__":
    sys.exit(main())
