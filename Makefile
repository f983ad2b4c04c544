# Needs Python 3.11+ and make; everything else is fetched into .venv. `make` alone lists the targets.
PYTHON ?= python3
VENV ?= .venv
MODEL ?= smollm2-135m
BIN := $(VENV)/bin
DEMO_CHAT := chat:count=16,turns=2,system=200,user=60,output=32
DEMO_SLO := ttft:p95<1s and itl:p95<100ms
NATIVE := $(shell find native -type f 2>/dev/null)
BUILD := pyproject.toml CMakeLists.txt tools/setup_venv.py $(NATIVE)

.DEFAULT_GOAL := help
.PHONY: help setup dev model demo test test-all check docs bench wheel sanitize clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.base ## Build and install sixfold into .venv
dev: $(VENV)/.dev

$(VENV)/.base: $(BUILD)
	@$(PYTHON) tools/setup_venv.py --venv $(VENV)
	@touch $@

$(VENV)/.dev: $(BUILD)
	@$(PYTHON) tools/setup_venv.py --venv $(VENV) --dev
	@touch $(VENV)/.base $@

model: $(VENV)/.base
	@$(BIN)/sixfold pull $(MODEL)

demo: model ## Show what strategies do to a real model, then tune it under objectives
	@$(BIN)/python benchmarks/demo.py --model $(MODEL)
	@rm -f build/demo.db*
	@echo; echo "Tuning $(MODEL) for a chat workload under $(DEMO_SLO), two minutes:"
	@$(BIN)/sixfold tune $(MODEL) --workload $(DEMO_CHAT) --concurrency 12 --slo "$(DEMO_SLO)" \
	  --budget 2m --store build/demo.db --explorer sixfold-explorer.html || [ $$? = 3 ]

test: $(VENV)/.dev model ## Run the tests
	@$(BIN)/python -m pytest -m "not slow"

test-all: $(VENV)/.dev model ## Run every test at its full numbers; hours, resumable (ACCEPT_GEMMA=1)
	@[ "$(ACCEPT_GEMMA)" != 1 ] || $(BIN)/sixfold pull gemma3-270m --accept-license
	@$(BIN)/python tools/test_all.py --record

check: $(VENV)/.dev ## Lint, types, import contract, size limits, docs
	@$(BIN)/python tools/check.py

docs: $(VENV)/.dev ## Write the generated pages anew
	@$(BIN)/python tools/gen_docs.py

bench: model ## Measure the server's throughput (see benchmarks/ for the rest)
	@$(BIN)/python benchmarks/server_throughput.py --model $(MODEL)

wheel: $(VENV)/.dev ## Build a manylinux wheel into dist/ and try it in a fresh environment
	@$(BIN)/python tools/build_wheel.py

sanitize: $(VENV)/.dev ## Run the native tests under ASan, UBSan and TSan (needs g++ or clang++)
	@$(BIN)/python tools/sanitize.py

clean: ## Remove all that make made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src -name '*.so' -delete
