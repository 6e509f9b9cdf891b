SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# The stamp is newer than the locks only when the whole set-up went through: a second make does no set-up again.
$(INSTALLED): envs/lock.txt envs/torch.txt pyproject.toml
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement envs/lock.txt
	$(BIN)/python -m pip install --quiet --requirement envs/torch.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
