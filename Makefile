# `make` lists the targets. The first of them to run sets up .venv; it is set up again when pyproject.toml or
# constraints.txt change.
#
#   make PYTHON=python3.12 …        another interpreter (3.11 or later)
#   make TORCH_INDEX=https://download.pytorch.org/whl/cpu …
#                                   torch for the CPU only: on Linux x86_64 PyPI's own brings gigabytes of CUDA
#   make demo ARGS="--steps 20"     further arguments of the command behind a target
#   make bench RESULTS=mine.jsonl   where the benchmarks' lines are kept; ARGS="--rounds 3" for a shorter run
#   make bench-gpu ARGS="--stages 3,4 --output results/gpu"
#                                   chosen stages, and a folder to keep their lines in; ARGS=--help says all there is

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
ARGS ?=
RESULTS ?= bench.jsonl
BIN := $(VENV)/bin
READY := $(VENV)/ready
DOCS_READY := $(VENV)/docs-ready
# As many processes as there are cores, four at most, a file's tests in one of them, and one thread in each: tiny models
# gain nothing from more.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile
# The tests of library and callback, without those marked `trl`; and those of `hbo train`, for releases that it takes.
LIBRARY := core config data scoring folder rewards report training watch
TRAIN := run check compare demo
# One pytest call for each folder: names of their conftest files clash.
ROOMS = failed=; for room in $(2); do echo "== tests/$$room"; \
  OMP_NUM_THREADS=1 $(1)/bin/python -m pytest -m "not slow and not real$(3)" tests/$$room $(ARGS) || \
  failed="$$failed $$room"; done; [ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }
LIBRARY_TESTS = $(call ROOMS,$(1),$(LIBRARY), and not trl)
TRAIN_TESTS = $(call ROOMS,$(1),$(TRAIN))

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-lowest test-middle test-integrations dist-check check bench bench-gpu docs

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 16

setup: $(READY) ## install hbo and its tools into .venv

demo: $(READY) ## fine-tune a real model on four domains (about 10 minutes on 2 cores with bf16) into runs/demo, anew each time
	$(BIN)/hbo demo --output runs/demo --overwrite $(ARGS)

test: $(READY) ## run the tests, without the slow matrix
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(READY) ## run all tests: kills, faults and several processes too
	$(BIN)/pytest $(ARGS)

test-lowest: .venv-lowest/ready ## run the tests of library and callback at the lowest releases that pyproject.toml allows
	@$(call LIBRARY_TESTS,.venv-lowest)

test-middle: .venv-axolotl/ready .venv-swift/ready ## the same with the releases that axolotl pins, those of `hbo train` too, and with ms-swift's, each in an environment of its own
	@$(call LIBRARY_TESTS,.venv-axolotl)
	@$(call TRAIN_TESTS,.venv-axolotl)
	@$(call LIBRARY_TESTS,.venv-swift)

test-integrations: ## train through other trainers' own commands, each in an environment with its pins; ARGS="axolotl swift" chooses
	PYTHON=$(PYTHON) TORCH_INDEX=$(TORCH_INDEX) tests/integrations/run.sh $(ARGS)

dist-check: ## build wheel and sdist, install each in an environment of its own and run the demo's first step; takes minutes
	tests/packaging/check_dist.sh $(PYTHON) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

check: $(READY) ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# known.py times nothing: it judges methods, and takes hours for all of them.
bench: $(READY) ## run every benchmarks/*.py but known.py, one after the other, on an idle machine; their lines go to RESULTS too
	@failed=; : > $(RESULTS); \
	for file in $(filter-out benchmarks/known.py,$(wildcard benchmarks/*.py)); do \
	  echo "== $$file"; BENCH_RESULTS=$(RESULTS) $(BIN)/python "$$file" $(ARGS) || failed="$$failed $$file"; \
	done; \
	echo "results: $(RESULTS)"; [ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

bench-gpu: $(READY) ## measure on one CUDA card in nine minutes; lines go to runs/gpu
	$(BIN)/python -m benchmarks.gpu $(ARGS)

docs: $(DOCS_READY) ## build the documentation into site/; open site/index.html (warnings are errors)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

.venv-lowest/ready .venv-axolotl/ready .venv-swift/ready: .venv-%/ready: pyproject.toml constraints-%.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --disable-pip-version-check -c constraints-$*.txt \
	  $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -e '.[$(if $(filter axolotl,$*),train,cli)]' \
	  $(if $(filter axolotl,$*),tensorboard) $(if $(filter swift,$*),trl) peft pytest pytest-timeout hypothesis setuptools
	@touch $@

$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || \
	  { echo "error: there is no '$(PYTHON)'; install Python 3.11 or later, or name one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; name a later one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "error: $(PYTHON) can't make virtual environments; run: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt \
	  $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -e '.[dev]'
	@touch $@

$(DOCS_READY): $(READY)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt \
	  $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -e '.[docs]'
	@touch $@
