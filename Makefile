# Two commands do everything: `make demo` and `make test`. Both set up what they need, once.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out/demo

# Idle threads sleep instead of spinning: it matters where cores are shared.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test render clean
demo: $(VENV)/.core
	$(BIN)/vmemkit demo --out $(OUT)

test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -q
	$(BIN)/python -m pytest -q -p no:jaxtyping -o addopts= --nbval --nbval-current-env --nbval-cell-timeout 300 \
		--nbval-sanitize-with tests/nbval.cfg -W default notebooks

# Re-execute the notebooks and store their outputs (tests never write).
render: $(VENV)/.dev
	$(BIN)/python notebooks/render.py

clean:
	rm -rf $(VENV) out build *.egg-info

# The requirement on torch is installed first and alone: a bare `torch` may bring gigabytes of CUDA.
$(VENV)/.core: pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 10) <= v < (3, 14) and f"Python 3.10 to 3.13 is needed, got {v}: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q "$(TORCH)"
	$(BIN)/python -m pip install -q -e .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/python -m pip install -q -e ".[notebook,dev]"
	touch $@
