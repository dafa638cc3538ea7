# `make` alone lists what there is. Nothing needs to be there before but make and Python 3.11 or newer.
PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin
READY := .venv/.ready
CONSTRAINTS := $(addprefix -c ,$(wildcard constraints.txt))

.DEFAULT_GOAL := help
.PHONY: help install demo test test-long coverage docs bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

install: $(READY) ## make .venv with the package and every extra

$(READY): pyproject.toml $(wildcard constraints.txt)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11; name a newer one: make install PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) -e '.[all]'
	-$(BIN)/python -m hhmnet.pose fetch # joints from video need them; later calls fetch them too
	@touch $@

demo: $(READY) ## sample data, training, figures and pictures in runs/demo
	$(BIN)/hhmnet demo

# The tests compute little and start much: two processes of one thread each beat one process of two.
test: $(READY) ## lint, types, floors and tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist loadgroup

test-long: $(READY) ## the tests that take minutes each: processes killed at random moments, readers fed with noise
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist loadgroup -m long

# With the tracer the tests take about twice as long.
coverage: $(READY) ## lines and branches that the tests run: a table, and pages in htmlcov; TESTS='FOLDER ...' for some
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist loadgroup --cov --cov-report=term --cov-report=html $(TESTS)

docs: $(READY) ## the pages as HTML in docs/_build
	$(BIN)/sphinx-build --fail-on-warning --keep-going -q docs docs/_build
	@echo docs/_build/index.html

bench: $(READY) ## speed on this machine beside ST-GCN; CTRGCN=CHECKOUT races CTR-GCN too
	$(BIN)/hhmnet bench $(BENCH)
	$(if $(CTRGCN),$(BIN)/python benchmarks/peers.py zoo/nw_ucla/stst-joint --memory --ctrgcn '$(CTRGCN)')

clean: ## remove .venv, caches and runs/demo; other runs stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* htmlcov docs/_build runs/demo
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
