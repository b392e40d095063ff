#!/usr/bin/env python3
"""Makes the environment `.venv` of this checkout and installs locked groups into it, each once.

usage: python3 scripts/environment.py runtime [demo] [dev]

Runs under any Python from 3.10 on, with the standard library only.
"""

import sys
from pathlib import Path

# It runs before there is an environment.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.environment import main

if __name__ == "__main__":
    main(sys.argv[1:])
