"""Running TorchServe: `server` is its life cycle; `launch` prepares a start; `command` is `scripts/serve.py`.

`port_check`, `processes`, `logs` and `signals` each do one part; `capacity` plans workers and threads; `errors` has
the one exception. `healthcheck` is `scripts/healthcheck.py` and, like `capacity`, is part of the serving image.
`management` calls the management API of any server. May import `tools.paths`, `tools.ports`, `tools.sessions` and
`gradcam.machine`; imported by all other packages of `tools`.
"""
