# The two commands: `make demo` and `make test`. Both make .venv on the first call.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A package index of CPU builds, for machines whose default index has only large CUDA ones:
#   make test TORCH_INDEX=https://.../whl/cpu
TORCH_INDEX ?=

.PHONY: demo test lint protos emulated-board clean

# Torch goes in first, so that TORCH_INDEX serves it alone.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[host,dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/hil-lab demo

test: $(VENV)/.installed lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m protos.generate --check

protos: $(VENV)/.installed
	$(BIN)/python -m protos.generate

# The whole life of a board on a Debian arm64 machine under QEMU; the image is made once.
EMULATED := $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/hil-lab/arm64-image
emulated-board: $(VENV)/.installed
	.ci/arm64-image $(EMULATED)
	$(BIN)/python -m tests.emulated $(EMULATED)

clean:
	rm -rf $(VENV) build dist *.egg-info
