#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Serve model archives with TorchServe in the foreground, until Ctrl-C, SIGTERM or SIGHUP.

    scripts/serve.py [--port 8080] [--cors ORIGIN] ARCHIVE.mar...

The terminal shows when a model is ready, or why it could not be loaded. Logs are kept in `build/logs/PORT/`:
`model_log.log` is the handler's, `access_log.log` lists the requests.
"""

import sys

from tools.server.command import main

if __name__ == "__main__":
    sys.exit(main())
