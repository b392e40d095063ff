#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../.venv/bin/python" "$0" "$@"'
"""Serves model archives with TorchServe in the foreground, until Ctrl-C, SIGTERM or SIGHUP.

    scripts/serve.py [--port 8080] ARCHIVE.mar...

The terminal shows when a model is ready and why one is not. What TorchServe and the handlers say goes to
`build/logs/PORT/` and stays there: `model_log.log` is the handler's side, `access_log.log` the requests.

The same life cycle for other programs: a server is ready inside the block, and gone behind it.

    with Server([Path("model_store/resnet18.mar")], free_port()) as server:
        requests.post(f"{server.inference_url}/predictions/resnet18", data=picture)
"""

import sys

from tools.server.command import main

if __name__ == "__main__":
    sys.exit(main())
