# make demo and make test set up what they need. KINECAST_DATA, if set, names the folder of development data.
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) -rs
# Instruction sets that oneDNN may use at most: as on older processors, and all that this one has.
INSTRUCTION_SETS ?= AVX2 AVX512_CORE_VNNI DEFAULT

.PHONY: setup demo test lint docs wheel check-all test-isa clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt src/kinecast/packages.py
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	$(BIN)/python -m kinecast.packages | xargs $(BIN)/pip install --quiet --disable-pip-version-check --no-deps
	touch $@

demo: setup
	$(BIN)/kinecast demo -o out/demo

test: setup
	$(PYTEST) -m 'not slow'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation, in site/; a warning, such as a link that leads nowhere, is an error.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Wheel and source distribution, in dist/. build/ may hold modules that have moved since.
wheel: setup
	rm -rf build dist
	$(BIN)/python -m build --outdir dist

# Everything slow as well: long tests, benchmarks, the figures in the docs.
check-all: lint
	$(PYTEST)
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/memory.py

# All tests as other processors would run them. What an instruction set breaks is found here, not by a user.
test-isa: setup
	@failed=; for set in $(INSTRUCTION_SETS); do \
	    echo "== ONEDNN_MAX_CPU_ISA=$$set"; \
	    ONEDNN_MAX_CPU_ISA=$$set $(PYTEST) || failed="$$failed $$set"; \
	done; \
	if [ -n "$$failed" ]; then echo "failed under:$$failed"; exit 1; fi

clean:
	rm -rf $(VENV) out build dist site .pytest_cache .mypy_cache .ruff_cache
