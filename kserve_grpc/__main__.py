"""Serve V2's gRPC service in the image: `python -m kserve_grpc`."""

from __future__ import annotations

from kserve_grpc.http_api import HttpApi
from kserve_grpc.service import Service, create_server
from tools.ports import BEHIND_PROXY, HOST, INFERENCE, KSERVE_GRPC


def main() -> None:
    """Serve until a signal ends the process."""
    service = Service(torchserve=HttpApi(HOST, INFERENCE + BEHIND_PROXY), proxy=HttpApi(HOST, INFERENCE))
    server, _ = create_server(f"{HOST}:{KSERVE_GRPC}", service)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
