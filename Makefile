# Two commands matter: `make demo` and `make test`. Each sets up what it needs in .venv, no more.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all lint docs results bench pictures clean

demo: $(VENV)/user
	$(BIN)/audiotok roundtrip egs/data/reading.flac -o demo --force

# Compiled once, not by each of the hundreds of processes that tests start; empty is unset.
test test-all: export PYTHONDONTWRITEBYTECODE =

test: $(VENV)/developer lint
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow"

test-all: $(VENV)/developer lint
	$(BIN)/pytest

lint: $(VENV)/developer
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# The site, into build/docs; `make test` builds it too.
docs: $(VENV)/developer
	$(BIN)/python -m sphinx -W --keep-going -E -d build/doctrees -b html docs build/docs

# Tables of stored results that pages outside of the site keep.
results: $(VENV)/user
	$(BIN)/python docs/_ext/generate.py *.md recipes/*.md

bench: $(VENV)/developer
	$(BIN)/python tests/bench/encode.py
	$(BIN)/python tests/bench/peers.py
	$(BIN)/python tests/bench/tokens.py
	$(BIN)/python tests/bench/stream.py
	$(BIN)/python tests/bench/serve.py
	$(BIN)/python tests/bench/packing.py

# The pictures of README and docs.
pictures: $(VENV)/user
	$(BIN)/audiotok plot egs/data/reading.flac --codec speech --start 2 --end 5 \
		-o docs/images/reading.png --force

# torch comes first and pinned: left to itself pip takes the newest build, with gigabytes of CUDA.
$(VENV)/user: pyproject.toml Makefile
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "audiotok needs Python 3.10+")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --editable '.[plot,fidelity]'
	touch $@

# What only developers need: test runner, linters, a browser's driver, other people's codecs.
$(VENV)/developer: $(VENV)/user
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo build docs/gallery *.egg-info
