# make demo          Run the demo.
# make test          Lint and fast tests.
# make test-all      Lint and all tests; make coverage: all tests, and which lines they run.
# make test-extras   All tests with every optional dependency; make test-no-extras: with none.
# make docs          Build the documentation in build/site.
# make dist          Build wheel and sdist; make smoke: install both into empty environments and run them.
# Each command creates .venv with pinned versions if it does not exist.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
EXTRAS ?= dev,docs,export,tensorboard
# All tests of a file run in one process, which creates their fixtures once.
PYTEST = $(BIN)/pytest -n 2 --dist loadfile

.PHONY: demo test test-all coverage test-without-shared test-extras test-no-extras pytest lint parity docs dist smoke clean

demo: $(VENV)/.ready
	$(BIN)/quovadis demo $(VIDEO) --out runs/demo

test: lint
	$(PYTEST) -m "not slow"

test-all: lint
	$(PYTEST)

coverage: $(VENV)/.ready
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-fail-under=85

test-without-shared: $(VENV)/.ready
	QUOVADIS_SHARED=build/absent $(BIN)/pytest -m shared

test-extras:
	$(MAKE) pytest VENV=build/extras EXTRAS=dev,docs,opencv,openvino,tensorboard,cluster,export,web,hub,kinetics,browser

test-no-extras:
	$(MAKE) pytest VENV=build/no-extras EXTRAS=dev

pytest: $(VENV)/.ready
	$(PYTEST)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

parity: $(VENV)/.ready
	$(BIN)/python -m benchmarks.parity

docs: $(VENV)/.ready
	$(BIN)/mkdocs build --strict

dist:
	rm -rf dist build/pack
	$(PYTHON) -m venv build/pack
	build/pack/bin/python $(PIP_INSTALL) build
	build/pack/bin/python -m build --outdir dist .

smoke:
	for file in dist/*.whl dist/*.tar.gz; do \
	    rm -rf build/empty && $(PYTHON) -m venv build/empty && \
	    build/empty/bin/python $(PIP_INSTALL) -c constraints.txt torch && \
	    build/empty/bin/python $(PIP_INSTALL) -c constraints.txt $$file && \
	    (cd build && empty/bin/python ../tests/smoke.py) || exit 1; \
	done

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt torch
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) runs build dist .pytest_cache .mypy_cache .ruff_cache .coverage*
