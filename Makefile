# Two commands matter: `make demo` and `make test`. Each sets up everything it needs in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all lint bench clean

demo: $(VENV)/ready
	$(BIN)/audiotok roundtrip egs/data/reading.flac -o demo --force

test: $(VENV)/ready lint
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow"

test-all: $(VENV)/ready lint
	$(BIN)/pytest

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(VENV)/ready
	$(BIN)/python tests/bench/encode.py
	$(BIN)/python tests/bench/peers.py
	$(BIN)/python tests/bench/tokens.py
	$(BIN)/python tests/bench/stream.py
	$(BIN)/python tests/bench/serve.py
	$(BIN)/python tests/bench/packing.py

# torch comes first and pinned: left to itself pip takes the newest build, with gigabytes of CUDA.
$(VENV)/ready: pyproject.toml Makefile
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "audiotok needs Python 3.10+")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info
