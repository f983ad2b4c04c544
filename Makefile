# Needs Python 3.11+ and make; everything else is fetched into .venv. `make` alone lists the targets.
PYTHON ?= python3
VENV ?= .venv
MODEL ?= smollm2-135m
BIN := $(VENV)/bin
DEMO_CHAT := chat:count=16,turns=2,system=200,user=60,output=32
DEMO_SLO := ttft:p95<1s and itl:p95<100ms
DEMO_FAULT := max_num_seqs=1
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

demo: model ## Strategies on and off on a real model; tune it; name, fix and prove a fault
	@$(BIN)/python benchmarks/demo.py --model $(MODEL)
	@rm -f build/demo.db*
	@echo; echo "Tuning $(MODEL) for a chat workload under $(DEMO_SLO), two minutes:"
	@$(BIN)/sixfold tune $(MODEL) --workload $(DEMO_CHAT) --concurrency 12 --slo "$(DEMO_SLO)" \
	  --budget 2m --store build/demo.db || [ $$? = 3 ]
	@rm -f build/advise.db* build/scoreboard.jsonl
	@echo; echo "A forced fault, $(DEMO_FAULT): named, remedied and proven:"
	@$(BIN)/sixfold advise --validate $(MODEL) --flags $(DEMO_FAULT) --workload $(DEMO_CHAT) \
	  --concurrency 12 --slo "$(DEMO_SLO)" --store build/advise.db \
	  --scoreboard build/scoreboard.jsonl || [ $$? = 3 ]
	@[ ! -s build/scoreboard.jsonl ] || board="--scoreboard build/scoreboard.jsonl"; \
	  $(BIN)/sixfold explore build/demo.db build/advise.db $$board -o sixfold-explorer.html

test: $(VENV)/.dev model ## Run the tests
	@$(BIN)/python -m pytest -m "not slow"

test-all: $(VENV)/.dev model ## Run every test at its full numbers; hours, resumable (ACCEPT_GEMMA=1)
	@[ "$(ACCEPT_GEMMA)" != 1 ] || $(BIN)/sixfold pull gemma3-270m --accept-license
	@$(BIN)/python tools/test_all.py --record

check: $(VENV)/.dev ## Lint, types, import contract, size limits, docs
	@$(BIN)/python tools/check.py

docs: $(VENV)/.dev ## Write the generated pages anew
	@$(BIN)/python tools/gen_docs.py

bench: model ## Kernels, steps, the server; rivals with LLAMA=DIR, engines with PEERS="FLAGS"
	@$(BIN)/python benchmarks/kernels.py --quick
	@[ -z "$(LLAMA)" ] || $(BIN)/python benchmarks/kernel_rivals.py --ggml $(LLAMA)
	@$(BIN)/python benchmarks/steps.py --model $(MODEL) --repeats 1
	@$(BIN)/python benchmarks/server_throughput.py --model $(MODEL)
	@[ -z "$(PEERS)" ] || $(BIN)/python benchmarks/peers.py $(PEERS)

wheel: $(VENV)/.dev ## Build a manylinux wheel into dist/ and try it in a fresh environment
	@$(BIN)/python tools/build_wheel.py

sanitize: $(VENV)/.dev ## Run the native tests under ASan, UBSan and TSan (needs g++ or clang++)
	@$(BIN)/python tools/sanitize.py

clean: ## Remove all that make made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src -name '*.so' -delete
