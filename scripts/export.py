#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Export an archive's network with its explanation as one graph, for runtimes that have no gradients.

    scripts/export.py ARCHIVE --format onnx|openvino|triton|model-server --output DIR [--method NAME] [--layer NAME]

The graph is verified against the archive before it is written. `docs/export.md` describes it.
"""

import sys

from tools.export.command import main

if __name__ == "__main__":
    sys.exit(main())
