# make demo    install, then train on the built-in birds
# make test    install, then lint, types, architecture and the fast tests
# make test-all  the slow tests as well
# make docs    install, then build the documents as a site in build/docs
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all lint docs clean

demo: .venv/.installed
	$(BIN)/fieldmark demo

# Two workers with one thread each: threads of several trainings at once would wait for one another. The tests of a file run in one worker,
# so that what they share is trained once.
test: .venv/.installed lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not slow"

test-all: .venv/.installed lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/.installed
	$(BIN)/sphinx-build --fail-on-warning --keep-going docs build/docs

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Fieldmark needs Python 3.11 or newer; try make PYTHON=python3.12"'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf .venv build src/*.egg-info
