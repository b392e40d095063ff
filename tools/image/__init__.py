"""The serving image: `container` is `scripts/image.py`, which builds it with Docker or podman.

`container.ContainerEngine` also runs images for the tests. May import `tools.paths` only. `.ci/prepare_image.py` uses
it on build machines without a container engine.
"""
