# Every target installs what it needs on its first run.

PYTHON ?= python3
MODEL ?= resnet18
WEIGHTS ?= default
PORT ?= 8080
LENS_PORT ?= 8090
FUZZ ?= 60
ENGINE ?= auto
SOAK ?= 300
ROUNDS ?= 3
USERS ?= 8
DURATION ?= 30
P95 ?= 2000
ERRORS ?= 0
TARGET ?= cpu
# DOORS and PICTURES are the former names of PROTOCOLS and IMAGES.
PROTOCOLS ?= $(DOORS)
IMAGES ?= $(PICTURES)

VENV := .venv/bin
ENVIRONMENT := $(PYTHON) scripts/environment.py

.DEFAULT_GOAL := help
.PHONY: help setup demo serve lens test test-fast test-full coverage lens-test node-test clients-test image-test \
	dataset-test export-test export-table lint format fuzz reliability benchmark load-test lens-screenshots image sbom lock release clean

# Groups that tests and linters need; their lanes run in an environment of exactly these.
TESTED := runtime demo build timm lens gpu dev load manifests
FULLY_TESTED := $(TESTED) ray browser fuzz
# Two processes; a lane passes what it selects.
PYTEST := $(VENV)/python -m pytest --numprocesses 2 --max-worker-restart 0

help: ## list all targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  variables: MODEL=$(MODEL) WEIGHTS=$(WEIGHTS) PORT=$(PORT) (management PORT+1, metrics PORT+2) ENGINE=$(ENGINE)"
	@echo "    LENS_PORT=$(LENS_PORT) FUZZ=$(FUZZ) SOAK=$(SOAK) ROUNDS=$(ROUNDS) USERS=$(USERS) DURATION=$(DURATION) P95=$(P95) ERRORS=$(ERRORS) TARGET=$(TARGET) PYTHON=$(PYTHON)"

setup: ## create the environment .venv
	@$(ENVIRONMENT) $(TESTED)

demo: ## build an archive, start a server, and explain one photograph
	@$(ENVIRONMENT) runtime demo
	@$(VENV)/python scripts/demo.py --model $(MODEL) --weights $(WEIGHTS)

# MODEL is an architecture, whose archive is built, or the path of an archive, which is served as it is.
ARCHIVE := $(if $(filter %.mar,$(MODEL)),$(MODEL),model_store/$(MODEL).mar)

serve: ## build the archive if needed and serve it in the foreground; MODEL=path/to/archive.mar serves that; stop with Ctrl-C
	@$(ENVIRONMENT) runtime demo
ifeq ($(filter %.mar,$(MODEL)),)
	@$(VENV)/python scripts/build_mar.py --arch $(MODEL) --weights $(WEIGHTS) --engine $(ENGINE) --if-needed
endif
	@$(VENV)/python scripts/serve.py --port $(PORT) $(if $(CORS),--cors '$(CORS)') $(ARCHIVE)

lens: ## serve the page at LENS_PORT, with the TorchServe at PORT or a new one
	@$(ENVIRONMENT) runtime demo lens
	@$(VENV)/python scripts/open_lens.py --model $(MODEL) --weights $(WEIGHTS) --port $(PORT) --lens-port $(LENS_PORT)

test: ## run the tests of every change, also on a real TorchServe; downloads no weights
	@$(ENVIRONMENT) --exact $(TESTED)
	@$(PYTEST)

test-fast: ## run the tests that take no server and no seconds each
	@$(ENVIRONMENT) --exact $(TESTED)
	@$(PYTEST) -m "not slow and not full" tests/gradcam tests/tools tests/lens tests/kserve_grpc tests/deploy

test-full: ## run every test, with Ray, a browser, real clients, HAProxy, Node, fuzzing for FUZZ seconds, and the image
	@$(ENVIRONMENT) --exact $(FULLY_TESTED)
	@scripts/install_debian.sh chromium chromium chromium-browser google-chrome
	@scripts/install_debian.sh haproxy haproxy
	@$(PYTEST) -m "" --ignore tests/image --ignore tests/browser --ignore tests/clients --ignore tests/proxy
	@$(VENV)/python -m pytest -m "" tests/browser
	@$(VENV)/python -m pytest -m "" tests/clients tests/proxy
	@scripts/node_tools.sh
	@$(VENV)/python tests/fuzz/fuzz_decode.py --seconds $(FUZZ)
	@IMAGE=gradcam-serving:cpu $(VENV)/python .ci/prepare_image.py $(VENV)/python -m pytest -m "" tests/image

coverage: ## run the tests of `make test` and list the lines and branches that they do not reach
	@$(ENVIRONMENT) --exact $(TESTED)
	@$(PYTEST) --cov handler --cov tools --cov lens --cov kserve_grpc --cov-branch --cov-report term-missing:skip-covered

lens-test: ## test the page in a real browser; as root, installs Debian's Chromium if missing
	@$(ENVIRONMENT) runtime demo timm lens dev browser
	@scripts/install_debian.sh chromium chromium chromium-browser google-chrome
	@$(VENV)/python -m pytest tests/browser

node-test: ## lint the page's JavaScript and the workflows, and test the page's arithmetic; needs Node 20.19
	@scripts/node_tools.sh

clients-test: ## test real clients (needs Node 20), and the image's HAProxy (as root, installs Debian's haproxy)
	@$(ENVIRONMENT) $(TESTED)
	@scripts/install_debian.sh haproxy haproxy
	@$(VENV)/python -m pytest tests/clients tests/proxy

lens-screenshots: ## retake the screenshots of the page in docs/
	@$(ENVIRONMENT) runtime demo timm lens dev browser
	@scripts/install_debian.sh chromium chromium chromium-browser google-chrome
	@$(VENV)/python scripts/screenshots.py

lint: ## run ruff and mypy, and compare the locks with pyproject.toml
	@$(ENVIRONMENT) --exact $(TESTED)
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy
	@$(VENV)/python -m pytest -q tests/deploy/test_locks.py

format: ## format the code
	@$(ENVIRONMENT) --exact $(TESTED)
	@$(VENV)/ruff check --fix .
	@$(VENV)/ruff format .

fuzz: ## fuzz the decoder and the parser for FUZZ seconds
	@$(ENVIRONMENT) runtime dev fuzz
	@$(VENV)/python tests/fuzz/fuzz_decode.py --seconds $(FUZZ)

reliability: ## cause eight kinds of failure on a server under load, then soak it for SOAK seconds
	@$(ENVIRONMENT) runtime demo
	@$(VENV)/python scripts/reliability.py --soak $(SOAK)

benchmark: ## compare this server with stock TorchServe and other Grad-CAM implementations
	@$(ENVIRONMENT) runtime demo dev
	@$(VENV)/python scripts/benchmark.py --rounds $(ROUNDS)

load-test: ## load a server through all protocols and check every response; URL=http://HOST:PORT for yours
	@$(ENVIRONMENT) runtime demo load
	@$(VENV)/python scripts/load_test.py --model $(MODEL) --users $(USERS) --duration $(DURATION) --max-p95 $(P95) \
		--max-error-rate $(ERRORS) $(if $(URL),--url '$(URL)') $(if $(HEADER),--header '$(HEADER)') \
		$(if $(IMAGES),--images '$(IMAGES)') $(if $(PROTOCOLS),--protocols $(PROTOCOLS)) $(if $(OPTIONS),--options $(OPTIONS))

image: ## build the serving image gradcam-serving:cpu with Docker or podman; TARGET=gpu for GPUs
	@$(PYTHON) scripts/image.py --target $(TARGET)

image-test: ## build the image and test it; installs podman if needed
	@$(ENVIRONMENT) runtime demo dev manifests
	@IMAGE=gradcam-serving:cpu $(VENV)/python .ci/prepare_image.py $(VENV)/python -m pytest tests/image

dataset-test: ## test bulk explanation on a local Ray cluster, with a node, an actor, and the command killed midway
	@$(ENVIRONMENT) runtime demo timm dev ray
	@$(VENV)/python -m pytest tests/bulk

export-test: ## test exported graphs in ONNX Runtime and OpenVINO
	@$(ENVIRONMENT) $(TESTED) export
	@$(VENV)/python -m pytest tests/tools/export

export-table: ## export every architecture with seeded weights, and print which ones work
	@$(ENVIRONMENT) runtime demo timm export
	@$(VENV)/python scripts/export_coverage.py

sbom: ## write the CycloneDX bill of materials of the runtime packages to build/sbom.json
	@$(ENVIRONMENT) sbom
	@mkdir -p build
	@$(VENV)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
		--output-file build/sbom.json requirements/runtime.txt
	@echo "build/sbom.json"

# The lock files name no package index, so they work with the one that pip is configured for. With openvino-telemetry,
# OpenVINO and NNCF would report their use to Google Analytics; both work without it.
UPGRADES := $(if $(filter all,$(UPGRADE)),--upgrade,$(addprefix --upgrade-package ,$(UPGRADE)))
COMPILE := $(VENV)/uv pip compile --quiet --universal --no-python-downloads --python-version 3.10 \
	--generate-hashes --no-emit-index-url --no-emit-package openvino-telemetry --no-annotate --no-header $(UPGRADES)

lock: ## resolve pyproject.toml into the locks in requirements/; UPGRADE=PACKAGE also upgrades that package, UPGRADE=all every one
	@$(ENVIRONMENT) dev
	@$(COMPILE) pyproject.toml --output-file requirements/runtime.txt
	@$(COMPILE) --group demo --constraint requirements/runtime.txt --output-file requirements/demo.txt
	@$(COMPILE) --group timm --constraint requirements/runtime.txt --constraint requirements/demo.txt \
		--output-file requirements/timm.txt
	@$(COMPILE) --group build --constraint requirements/runtime.txt --constraint requirements/demo.txt \
		--output-file requirements/build.txt
	@$(COMPILE) --group export --constraint requirements/runtime.txt --constraint requirements/build.txt \
		--output-file requirements/export.txt
	@$(COMPILE) --group gpu --constraint requirements/runtime.txt --output-file requirements/gpu.txt
	@$(COMPILE) --group lens --constraint requirements/runtime.txt --constraint requirements/demo.txt \
		--output-file requirements/lens.txt
	@$(COMPILE) --group dev --constraint requirements/runtime.txt --constraint requirements/demo.txt \
		--constraint requirements/timm.txt --output-file requirements/dev.txt
	@$(COMPILE) --group grpc --constraint requirements/runtime.txt --constraint requirements/dev.txt \
		--output-file requirements/grpc.txt
	@$(COMPILE) --group manifests --constraint requirements/runtime.txt --constraint requirements/dev.txt \
		--output-file requirements/manifests.txt
	@$(COMPILE) --group browser --constraint requirements/lens.txt --output-file requirements/browser.txt
	@$(COMPILE) --group fuzz --output-file requirements/fuzz.txt
	@$(COMPILE) --group load --constraint requirements/runtime.txt --constraint requirements/demo.txt \
		--constraint requirements/timm.txt --constraint requirements/dev.txt --output-file requirements/load.txt
	@$(COMPILE) --group ray --constraint requirements/runtime.txt --constraint requirements/demo.txt \
		--constraint requirements/dev.txt --output-file requirements/ray.txt
	@$(COMPILE) --group clients --output-file requirements/clients.txt
	@$(COMPILE) --group sbom --constraint requirements/runtime.txt --constraint requirements/dev.txt \
		--output-file requirements/sbom.txt

release: ## lint, test, commit and tag VERSION; write its sources, archive, SBOM and checksums to build/release
	@$(if $(VERSION),,$(error VERSION is missing: make release VERSION=0.2.0))$(MAKE) --no-print-directory lint test
	@$(ENVIRONMENT) runtime demo sbom
	@$(VENV)/python scripts/release.py $(VERSION)

clean: ## remove the environment, the archives, and all other generated files
	rm -rf .venv .venv.lock .coverage build model_store/*.mar .mypy_cache .pytest_cache .ruff_cache
