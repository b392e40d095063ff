"""Serve the page: `python -m lens`, configured by the environment variables of `lens.settings`."""

from __future__ import annotations

import os
import sys

import uvicorn

from lens.app import create_app
from lens.settings import Settings, SettingsError


def main() -> int:
    """Run the server until a signal stops it; return its exit status."""
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        print(f"lens: {error}", file=sys.stderr)
        return 2
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        limit_concurrency=settings.max_concurrent,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
        access_log=False,
        server_header=False,
        log_level="warning",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
