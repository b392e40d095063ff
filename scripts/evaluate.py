#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Measures how faithful explanations are: what becomes of the prediction when the map says where to change the picture.

archive → load → Pipeline;  paths → evaluate → Row → summarize → Summary → table, CSV, plot

Each picture is explained for its predicted class, with each method at each layer, by the code that serves. What is
changed is the model input, and what is watched is the probability of that class.
"""

import sys

from tools.evaluation.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
