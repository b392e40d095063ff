"""V2's gRPC service under its standard name, for clients that TorchServe's own service does not answer.

    gRPC client ──▶ HAProxy ──▶ service ──V2 with binary tensors over HTTP──▶ TorchServe

TorchServe's service has another package name, and drops `raw_input_contents`, parameters and requested outputs. Over
HTTP it passes all of them to the handler, so this server only translates.

    messages     protobuf messages of the service
    translation  ModelInfer to V2's binary HTTP form, and back
    http_api     requests to TorchServe and to the proxy
    service      the service's methods

Imports only point up this list. `python -m kserve_grpc` runs the server in the image. Nothing here imports the handler.
"""
