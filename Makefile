# Everything a fresh machine needs is Python 3.11+, make and a package index.
#   make benchmark   set up, then the main job on generated phantom datasets
#   make test        set up, then lint, types and tests
SHELL := /bin/bash
PYTHON ?= python3
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/fewshot-bus

# The dependencies live in one environment per list of them in pyproject.toml, outside the checkout, so that a second
# clone installs nothing. The checkout's own .venv is thin: it sees that environment and holds the project, editable.
REQUIREMENTS = import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
	required = '\n'.join(sum(p['optional-dependencies'].values(), p['dependencies']))
KEY := $(shell $(PYTHON) -c "import hashlib, sys; $(REQUIREMENTS); print(hashlib.sha256((required + sys.version).encode()).hexdigest()[:16])")
DEPENDENCIES := $(CACHE)/environment-$(KEY)
RUN := .venv/bin/python

.PHONY: setup benchmark test lint types house tests test-slow survive fuzz mutants speed format clean
setup: .venv/$(KEY)

benchmark: setup
	.venv/bin/fewshot benchmark configs/benchmark/phantom.yaml

test: lint types tests

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(DEPENDENCIES)/bin/lint-imports --no-cache

# The house in figures: files, layers, twins, docstrings, each with what is wanted of it.
house: setup
	$(RUN) -m tests.house

types: setup
	$(RUN) -m mypy

tests: setup
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n auto --dist worksteal

test-slow: setup
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q -m slow -n auto --dist worksteal

# Longer than the suite does: commands killed at 200 points, and ten times as many damaged files.
survive: setup
	OMP_NUM_THREADS=1 FEWSHOT_KILLS=200 $(RUN) -m pytest -q -m "slow or not slow" tests/survival/test_kill.py

fuzz: setup
	OMP_NUM_THREADS=1 FEWSHOT_FUZZ=10 $(RUN) -m pytest -q tests/fuzz

# Changes the code of scores, sampling and PANet in a copy, a change at a time, and counts what the tests notice: hours.
mutants: setup
	OMP_NUM_THREADS=1 $(RUN) -m mutmut run
	$(RUN) -m mutmut results

# Measured on an idle machine, in 9 to 11 minutes: make speed, and make speed THREADS=1. README's table is made of both.
# With BUSY=1 another process computes all the while.
THREADS ?= 2
speed: setup
	OMP_NUM_THREADS=$(THREADS) $(RUN) -m tests.benchmarks $(if $(BUSY),--busy) --json results/speed/threads-$(THREADS)$(if $(BUSY),-busy).json

format: setup
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:
	rm -rf .venv build *.egg-info

.venv/$(KEY): $(DEPENDENCIES)/complete
	@rm -rf .venv
	@$(PYTHON) -m venv --without-pip .venv
	@$(DEPENDENCIES)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> $$($(RUN) -c "import sysconfig; print(sysconfig.get_path('purelib'))")/dependencies.pth
	@$(DEPENDENCIES)/bin/python -m pip --python $(RUN) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(DEPENDENCIES)/complete:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.11')"
	@echo "Installing the dependencies into $(DEPENDENCIES): about 3 minutes and 6 GB"
	@rm -rf $(DEPENDENCIES)
	@$(PYTHON) -m venv $(DEPENDENCIES)
	@$(PYTHON) -c "$(REQUIREMENTS); print(required)" > $(DEPENDENCIES)/requirements.txt
	@$(DEPENDENCIES)/bin/python -m pip install --quiet --progress-bar off -r $(DEPENDENCIES)/requirements.txt
	@$(DEPENDENCIES)/bin/python -m pip install --quiet --progress-bar off --no-deps \
		--config-settings=--build-option=build_ext "learn2learn==0.2.0" \
		|| echo "learn2learn was not built (is there a C compiler?): everything but the maml methods works"
	@touch $@
