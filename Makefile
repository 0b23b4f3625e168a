# demo · test · check · bench. Each does its own set-up: Python 3.11-3.13, git and make are enough.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := $(UV) run --no-sync
STAMP := .venv/.synced

.PHONY: help demo test check bench chaos clean

help:  ## What can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 10

demo: $(STAMP)  ## The main job: a real QLoRA sweep on this machine, then its report (a few minutes on two cores)
	$(RUN) python submit.py jobs/quickstart.yaml --run

# A worker a core, and one thread each: tests of models would else spin against each other. Long modules come first
# (tests/conftest.py), so that both end together.
test: $(STAMP)  ## All tests, on a CPU
	OMP_NUM_THREADS=1 $(RUN) pytest -n logical --dist loadscope --no-loadscope-reorder $(PYTEST)

check: $(STAMP)  ## Style, types, layers, documents in step with the code
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) lint-imports --no-logo
	$(RUN) pytest tests/test_architecture.py
	$(RUN) labqueue questions --check --root .

bench: $(STAMP)  ## Speed, as ratios against a named peer in the same run
	$(RUN) python benchmarks/speed.py
	$(RUN) python benchmarks/overhead.py
	$(RUN) python benchmarks/own.py
	$(RUN) python -m benchmarks.verdicts
	$(RUN) python benchmarks/reading.py
	$(RUN) python benchmarks/neighbours.py
	$(RUN) python benchmarks/tokenizing.py

chaos: $(STAMP)  ## The slow proof that nothing is ever lost: kills at every point, storms, full disks (about an hour)
	LABQUEUE_EXPLORE=3000 $(RUN) pytest -m hypothesis
	LABQUEUE_EXPLORE=120 $(RUN) pytest tests/llm/test_task_list.py
	$(RUN) python -m benchmarks.chaos all

clean:  ## Remove what was built; results and outputs stay
	rm -rf .venv .uv .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(STAMP): pyproject.toml
	@command -v $(UV) >/dev/null || { python3 -m venv .uv && .uv/bin/pip install --quiet uv; }
	@echo "Installing into .venv: about 3 GB to download where uv has not cached them (torch and CUDA's libraries), 6 GB on disk."
	@echo "The small model comes with the packages; nothing else is downloaded."
	$(UV) sync
	@touch $@
