# Makes and reuses .venv; PYTHON picks the interpreter it is made from.
PYTHON ?= python3
VENV := .venv/installed
RUN := .venv/bin/python
LITERT := .venv-litert/installed
JOBS ?= 2
SEED ?= 0
MINUTES ?= 30

export JAX_PLATFORMS ?= cpu

.PHONY: demo test test-all test-litert torture lint constraints clean

demo: $(VENV)
	$(RUN) scripts/demo.py

test: $(VENV) lint
	$(RUN) -m pytest -n $(JOBS) --dist worksteal -m 'not slow'

test-all: $(VENV) lint
	$(RUN) -m pytest -n $(JOBS) --dist worksteal -m 'not torture'

# Each test injects faults for MINUTES at most, drawn by SEED; run again, it goes on.
torture: $(VENV)
	$(RUN) -m pytest tests/torture -m torture --torture-seed=$(SEED) --torture-minutes=$(MINUTES)
	$(RUN) scripts/tables.py

# LiteRT's converter asks for older versions of two packages than the rest of the tests.
test-litert: $(LITERT)
	.venv-litert/bin/python -m pytest tests/deploy/test_litert.py tests/deploy/test_integers.py tests/deploy/test_bundle.py tests/deploy/test_backbone.py -m 'not slow' -k litert

lint: $(VENV)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

# What the versions of a run were, for `pip install -c constraints.txt`.
constraints: $(VENV)
	$(RUN) -m pip freeze --exclude-editable --exclude slimjax > constraints.txt

$(VENV): setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "slimjax needs Python 3.11 or newer; set PYTHON=python3.12, say")'
	test -x $(RUN) || $(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet --editable '.[dev]'
	touch $(VENV)

$(LITERT): setup.cfg
	test -x .venv-litert/bin/python || $(PYTHON) -m venv .venv-litert
	.venv-litert/bin/python -m pip install --quiet --editable '.[litert]' 'beartype>=0.20' 'hypothesis>=6.100' 'pytest>=8' 'pytest-timeout>=2.3'
	touch $(LITERT)

clean:
	rm -rf .venv .venv-litert .cache build *.egg-info
