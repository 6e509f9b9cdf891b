SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-cluster lint real truth kernels bench bench-dose bench-scale bench-cluster golden lock schemas clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DATA := $(or $(DOSELEDGER_DATA),../shared/data)
REAL := $(DATA)/lu177_spect_umich

help:
	@echo "make demo    all set-up, then a virtual three-site cohort from DICOM to the cohort page"
	@echo "make test    all set-up, then the test suite"
	@echo "make test-cluster  the start command on a Slurm of its own, with faults (root on Debian 12)"
	@echo "make real    two real scans of one patient (data not in the repository)"
	@echo "make lint    the static checks of make test alone"
	@echo "make lock    resolve envs/lock.txt again    make schemas  write the generated files again"
	@echo "make truth   true doses of the demo cohort by Monte Carlo (8 CPU-minutes; the result is committed)"
	@echo "make bench   benchmarks; each prints ratios of one run    make bench-dose  those of the dose engines"
	@echo "make bench-scale  planning, status and compaction of up to 5,000 patients (10 CPU-minutes, 2 GB of disk)"
	@echo "make bench-cluster  overhead per job of 100 tiny patients, here and on a Slurm (PROFILE=..., SLOTS=...)"
	@echo "make kernels  dose-point kernels by Monte Carlo (10 CPU-minutes; the result is committed)"
	@echo "make golden  accept new table hashes after a version bump"

setup: $(INSTALLED)

# The stamp is made last: a set-up that broke off is done again, a finished one never.
$(INSTALLED): envs/lock.txt envs/torch.txt pyproject.toml
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement envs/lock.txt
	$(BIN)/python -m pip install --quiet --requirement envs/torch.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: $(INSTALLED)
	rm -rf results/demo results/demo-input
	$(BIN)/doseledger simulate results/demo-input --sites 3 --patients 2 --cycles 2 --seed 1 --results ../demo
	$(BIN)/doseledger run results/demo-input/config.yaml --profile profiles/demo
	$(BIN)/doseledger summary results/demo-input/config.yaml --truth results/demo-input/truth

test: $(INSTALLED) lint
	$(BIN)/python -m pytest --numprocesses 2 --no-loadscope-reorder

# Slurm's packages are installed where they are missing; its daemons live in a box without a network.
test-cluster: $(INSTALLED)
	tests/cluster/slurm_up.sh --install
	timeout --kill-after 30 1800 tests/cluster/box.sh $(BIN)/python -m pytest tests/cluster

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check --compact-diff Snakefile workflow
	$(BIN)/python -m pytest --quiet tests/workflow/test_lint.py

real: $(INSTALLED)
	@test -d $(REAL) || { echo "The scans are not here ($(REAL)). Get the data set of doi 10.7302/0n8e-rz46"; \
	  echo "(University of Michigan, CC BY-NC 4.0) and set DOSELEDGER_DATA to the folder above lu177_spect_umich."; exit 1; }
	rm -rf results/real results/real-input
	$(BIN)/python recipes/umich_lu177.py $(REAL) results/real-input
	$(BIN)/doseledger run results/real-input/config.yaml
	$(BIN)/doseledger summary results/real-input/config.yaml --scans

# The engine is licensed GPL-3 and has an environment and a process of its own.
$(VENV)/ompmc: envs/ompmc.txt
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --requirement envs/ompmc.txt
	touch $@

truth: $(INSTALLED) $(VENV)/ompmc
	OPENBLAS_NUM_THREADS=1 $(BIN)/python recipes/truth/dose_truth.py recipes/truth/demo.yaml \
	  --out src/doseledger/phantom/true_dose.csv --record recipes/truth/demo_dose.json

kernels: $(INSTALLED) $(VENV)/ompmc
	OPENBLAS_NUM_THREADS=1 $(BIN)/python recipes/kernels/electron_kernels.py --out src/doseledger/data/electron_kernels.csv
	$(BIN)/python recipes/kernels/photon_kernels.py --out src/doseledger/data/photon_kernels.csv

bench: $(INSTALLED)
	$(BIN)/python tests/bench/bench_index.py
	$(BIN)/python tests/bench/bench_check.py
	$(BIN)/python tests/bench/bench_segmentation.py
	$(BIN)/python tests/bench/bench_registration.py
	$(BIN)/python tests/bench/bench_kinetics.py
	$(BIN)/python tests/bench/bench_compare.py
	$(BIN)/python tests/bench/bench_merge.py

bench-dose: $(INSTALLED)
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python tests/bench/bench_dose.py

bench-scale: $(INSTALLED)
	$(BIN)/python tests/bench/bench_plan.py
	$(BIN)/python tests/bench/bench_status.py
	$(BIN)/python tests/bench/bench_compact.py

bench-cluster: $(INSTALLED)
	$(BIN)/python tests/bench/bench_cluster.py $(if $(PROFILE),--profile $(PROFILE)) $(if $(SLOTS),--slots $(SLOTS))

golden: $(INSTALLED)
	$(BIN)/python -m pytest --quiet tests/workflow/test_golden.py --accept-golden

schemas: $(INSTALLED)
	$(BIN)/doseledger schemas

# uv looks only at the public index, so that a wheel that lies on this machine cannot get into the lock.
lock:
	$(PYTHON) -m venv /tmp/doseledger-lock && /tmp/doseledger-lock/bin/pip install --quiet uv
	/tmp/doseledger-lock/bin/uv pip compile pyproject.toml --group dev --group torch-companions --universal \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet -o envs/lock.txt

clean:
	rm -rf results/demo results/demo-input results/real results/real-input .snakemake
