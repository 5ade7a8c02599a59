# Every target makes and repairs .venv by itself (.ci/set-up); there is nothing to activate.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help demo test test-newer lint docs bench clean set-up

# No window is opened anywhere: figures go into files.
export MPLBACKEND := Agg

DEMO_NAME ?= $(if $(SHORT),demo-short,demo)
DEMO_SHORT_ARGS := $(if $(SHORT),--epochs 3 --verify-samples 4)
DEMO_ARGS ?=
BENCH_ARGS ?= $(if $(QUICK),--quick)
TEST_ARGS ?=
NEWER ?= 3.11

help:
	@echo "make demo      train a network, put it into Loihi's integers, prove both equal on Lava, write a report"
	@echo "               SHORT=1: short form; DEMO_ARGS='...': options of 'lava-snnlearn run'; DEMO_NAME=...: folder in runs/"
	@echo "make test      the whole test suite; TEST_ARGS='...': arguments of pytest, e.g. TEST_ARGS='tests/test_install.py -v'"
	@echo "make test-newer  what works without Lava, on Python 3.11; NEWER=3.12 or 3.13: another one, in .venv-NEWER"
	@echo "make lint      ruff (rules and format) and mypy"
	@echo "make docs      guides and API reference as web pages: build/docs/index.html; a warning is an error"
	@echo "make bench     the measurements in benchmarks/, beside other libraries (installed into benchmarks/.venvs, about 12 GB);"
	@echo "               QUICK=1: a short run of each, this library only; BENCH_ARGS='...': their options, e.g. --write"
	@echo "make set-up    only .venv, with the library and its test and lint tools (the targets above do this when needed)"
	@echo "make clean     delete caches and build leftovers; .venv, benchmarks/.venvs and runs/ stay"

set-up:
	@bash .ci/set-up

demo: set-up
	.venv/bin/lava-snnlearn run --name $(DEMO_NAME) --overwrite $(DEMO_SHORT_ARGS) $(DEMO_ARGS)
	@test -f runs/$(DEMO_NAME)/report.html || { echo "The demo wrote no runs/$(DEMO_NAME)/report.html" >&2; exit 1; }
	@echo "Report: $(CURDIR)/runs/$(DEMO_NAME)/report.html"

# Not 'python -m pytest': it makes processes/ importable under a second name, and Lava then finds no model.
# Several workers of one thread each: two threads gain next to nothing on networks as small as those of the tests.
test: set-up
	OMP_NUM_THREADS=1 .venv/bin/pytest -n auto --maxprocesses 4 --dist worksteal $(TEST_ARGS)

# Newer Pythons have no Lava: what needs none is tested there, without the long trainings.
test-newer:
	@bash .ci/set-up $(NEWER)
	OMP_NUM_THREADS=1 .venv-$(NEWER)/bin/pytest -n auto --maxprocesses 4 --dist worksteal -m "not learning" \
		--ignore tests/benchmarks --ignore tests/tutorials --ignore tests/test_find_python.py --ignore tests/test_install.py \
		--ignore tests/test_docs.py --ignore tests/interchange/test_nir_foreign.py \
		$(TEST_ARGS)
	bash .ci/experimental-lava $(NEWER)

lint: set-up
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

# The variable silences an advertisement, which would look like a warning.
docs: set-up
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict
	@echo "Documentation: $(CURDIR)/build/docs/index.html"

bench: set-up
	$(if $(QUICK),,.venv/bin/python benchmarks/peers/set_up.py)
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; .venv/bin/python "$$script" $(BENCH_ARGS); done

clean:
	find . -name __pycache__ -not -path './.venv/*' -not -path './benchmarks/.venvs/*' -prune -exec rm -rf {} +
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
