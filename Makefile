# Every target sets up what it needs by itself, once.

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

VENV := .venv/bin
ENVIRONMENT := $(PYTHON) scripts/environment.py

.DEFAULT_GOAL := help
.PHONY: help setup demo serve lens test lens-test image-test dataset-test lint fuzz reliability benchmark load-test \
	lens-screenshots image sbom lock clean

# What `make test` and `make lint` need.
TESTED := runtime demo timm lens gpu dev load manifests

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  variables: MODEL=$(MODEL) WEIGHTS=$(WEIGHTS) PORT=$(PORT) (management PORT+1, metrics PORT+2) ENGINE=$(ENGINE)"
	@echo "    LENS_PORT=$(LENS_PORT) FUZZ=$(FUZZ) SOAK=$(SOAK) ROUNDS=$(ROUNDS) USERS=$(USERS) DURATION=$(DURATION) P95=$(P95) ERRORS=$(ERRORS) TARGET=$(TARGET) PYTHON=$(PYTHON)"

setup: ## make the environment .venv and nothing else
	@$(ENVIRONMENT) $(TESTED)

demo: ## everything once: environment, weights, archive, server, one photograph explained
	@$(ENVIRONMENT) runtime demo
	@$(VENV)/python scripts/demo.py --weights $(WEIGHTS)

serve: ## build the archive if needed and serve it in the foreground; Ctrl-C stops
	@$(ENVIRONMENT) runtime demo $(filter openvino,$(ENGINE))
	@$(VENV)/python scripts/build_mar.py --arch $(MODEL) --weights $(WEIGHTS) --engine $(ENGINE) --if-needed
	@$(VENV)/python scripts/serve.py --port $(PORT) model_store/$(MODEL).mar

lens: ## the page that shows explanations, on the TorchServe at PORT or one that it starts, at LENS_PORT
	@$(ENVIRONMENT) runtime demo lens
	@$(VENV)/python scripts/open_lens.py --model $(MODEL) --weights $(WEIGHTS) --port $(PORT) --lens-port $(LENS_PORT)

test: ## all tests, a real TorchServe among them; no weights to download
	@$(ENVIRONMENT) $(TESTED)
	@$(VENV)/python -m pytest --numprocesses 2

lens-test: ## the page in a real browser, with a real TorchServe; installs Debian's Chromium where it may
	@$(ENVIRONMENT) runtime demo timm lens dev browser
	@scripts/chromium.sh
	@$(VENV)/python -m pytest tests/browser

lens-screenshots: ## take the pictures of the page in docs/ anew
	@$(ENVIRONMENT) runtime demo timm lens dev browser
	@scripts/chromium.sh
	@$(VENV)/python scripts/screenshots.py

lint: ## ruff and mypy
	@$(ENVIRONMENT) $(TESTED)
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy

fuzz: ## a minute of fuzzing the decoder and the parser; FUZZ=600 for more
	@$(ENVIRONMENT) runtime dev fuzz
	@$(VENV)/python tests/fuzz/fuzz_decode.py --seconds $(FUZZ)

reliability: ## break a real server under load in eight ways, then soak it for SOAK seconds
	@$(ENVIRONMENT) runtime demo
	@$(VENV)/python scripts/reliability.py --soak $(SOAK)

benchmark: ## our servers, the stock one and Grad-CAM as others write it, in turns; ENGINE=openvino to have that, too
	@$(ENVIRONMENT) runtime demo dev $(filter openvino,$(ENGINE))
	@$(VENV)/python scripts/benchmark.py --rounds $(ROUNDS)

load-test: ## a server under load of all kinds, every answer checked; URL=http://HOST:PORT for yours
	@$(ENVIRONMENT) runtime demo load
	@$(VENV)/python scripts/load_test.py --model $(MODEL) --users $(USERS) --duration $(DURATION) --max-p95 $(P95) \
		--max-error-rate $(ERRORS) $(if $(URL),--url '$(URL)') $(if $(HEADER),--header '$(HEADER)') \
		$(if $(PICTURES),--pictures '$(PICTURES)') $(if $(DOORS),--doors $(DOORS)) $(if $(OPTIONS),--options $(OPTIONS))

image: ## build the serving image gradcam-serving:cpu with Docker or podman; TARGET=gpu for GPUs
	@$(PYTHON) scripts/image.py --target $(TARGET)

image-test: ## build the image and run it, with podman installed if need be
	@$(ENVIRONMENT) runtime demo dev manifests
	@$(VENV)/python scripts/image.py --prepare
	@IMAGE=gradcam-serving:cpu $(VENV)/python -m pytest tests/image

dataset-test: ## explain pictures in bulk on a local Ray cluster, with a node, an actor and the command killed midway
	@$(ENVIRONMENT) runtime demo timm dev ray
	@$(VENV)/python -m pytest tests/bulk

sbom: ## the bill of materials of what is served, from the lock: CycloneDX in build/sbom.json
	@$(ENVIRONMENT) sbom
	@mkdir -p build
	@$(VENV)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
		--output-file build/sbom.json requirements/runtime.txt
	@echo "build/sbom.json"

# The lock names no index, so it works with whichever one pip is configured for.
COMPILE := $(VENV)/uv pip compile --quiet --universal --no-python-downloads --python-version 3.10 \
	--generate-hashes --no-emit-index-url --no-annotate --no-header --upgrade

lock: ## resolve pyproject.toml anew into requirements/
	@$(ENVIRONMENT) dev
	@$(COMPILE) pyproject.toml --output-file requirements/runtime.txt
	@$(COMPILE) --group demo --constraint requirements/runtime.txt --output-file requirements/demo.txt
	@$(COMPILE) --group timm --constraint requirements/runtime.txt --constraint requirements/demo.txt \
		--output-file requirements/timm.txt
	@$(COMPILE) --group openvino --constraint requirements/runtime.txt --output-file requirements/openvino.txt
	@$(COMPILE) --group gpu --constraint requirements/runtime.txt --output-file requirements/gpu.txt
	@$(COMPILE) --group lens --constraint requirements/runtime.txt --constraint requirements/demo.txt \
		--output-file requirements/lens.txt
	@$(COMPILE) --group dev --constraint requirements/runtime.txt --constraint requirements/demo.txt \
		--constraint requirements/timm.txt --output-file requirements/dev.txt
	@$(COMPILE) --group manifests --constraint requirements/runtime.txt --constraint requirements/dev.txt \
		--output-file requirements/manifests.txt
	@$(COMPILE) --group browser --constraint requirements/lens.txt --output-file requirements/browser.txt
	@$(COMPILE) --group fuzz --output-file requirements/fuzz.txt
	@$(COMPILE) --group load --constraint requirements/runtime.txt --constraint requirements/demo.txt \
		--constraint requirements/timm.txt --constraint requirements/dev.txt --output-file requirements/load.txt
	@$(COMPILE) --group ray --constraint requirements/runtime.txt --constraint requirements/demo.txt \
		--constraint requirements/dev.txt --output-file requirements/ray.txt
	@$(COMPILE) --group sbom --constraint requirements/runtime.txt --constraint requirements/dev.txt \
		--output-file requirements/sbom.txt

clean: ## remove the environment, archives and everything built
	rm -rf .venv .venv.lock build model_store/*.mar .mypy_cache .pytest_cache .ruff_cache
