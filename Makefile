# The two commands: `make demo` and `make test`. Both make .venv on the first call.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint protos clean

# CPU torch goes in first, so that no later package pulls a CUDA build.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0 --extra-index-url https://download.pytorch.org/whl/cpu \
	  || $(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet -c constraints.txt -e '.[host,dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/hil-lab demo

test: $(VENV)/.installed lint
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m protos.generate --check

protos: $(VENV)/.installed
	$(BIN)/python -m protos.generate

clean:
	rm -rf $(VENV) build dist *.egg-info
