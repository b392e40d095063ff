#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Load a new version of a model into a running server, compare it with the old one, switch, and switch back.

    scripts/rollout.py versions --model mine
    scripts/rollout.py add build/mine.mar --model-store /srv/model_store
    scripts/rollout.py compare IMAGES --model mine --old 1.0 --new 2.0
    scripts/rollout.py switch --model mine --to 2.0
    scripts/rollout.py remove --model mine --version 1.0

`add` and `remove` need a server that allows it; docs/rollout.md says when that is safe, and names alternatives.
"""

import sys

from tools.client.rollout import main

if __name__ == "__main__":
    sys.exit(main())
