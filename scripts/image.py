#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Builds the serving image, with Docker where its engine runs, else with podman.

    scripts/image.py [--target cpu|gpu] [--tag gradcam-serving:cpu] [--prepare]

`--prepare` is for a bare Debian, as a CI machine is: it installs podman with apt-get if neither is there, and where no
image registry can be reached makes the base image from Debian's own packages, under the name that the Dockerfile has.
"""

import sys

from tools.image.container import main

if __name__ == "__main__":
    sys.exit(main())
