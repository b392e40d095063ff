#!/usr/bin/env python3
"""Create the environment `.venv` of this checkout and install locked groups into it, each once.

    python3 scripts/environment.py GROUP...

Runs under any Python from 3.10 on, with the standard library only.
"""

import sys
from pathlib import Path

# It runs before the environment exists.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.environment import main

if __name__ == "__main__":
    sys.exit(main())
