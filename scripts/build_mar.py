#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Pack a network with its weights, labels and the handler into an archive that TorchServe serves.

    scripts/build_mar.py --arch resnet18 [--weights FILE] [--labels FILE] [--output model_store] [--if-needed]

The archive runs wherever the dependencies are installed; it needs nothing of this repository.
"""

import sys

from tools.archive.command import main

if __name__ == "__main__":
    sys.exit(main())
