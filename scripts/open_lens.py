#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Open the page that shows explanations, on a TorchServe that runs already or on a new one.

    scripts/open_lens.py [--model resnet18] [--weights default] [--port 8080] [--lens-port 8090]

Ctrl-C stops the page, and the TorchServe if this command started it.
"""

import sys

from tools.lens.runner import main

if __name__ == "__main__":
    sys.exit(main())
