# make quickstart: set up and run the main job. make test, make lint: what CI runs. make test-all: the slow tests too.
# make faults: kills, full disks, damaged files and 2,000 hostile inputs, about 15 minutes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Those that need nothing; the others take what was trained as an argument.
BENCHMARKS := encoded_cache evaluation fine_path language_model loader manifest recurrence speed
export OMP_WAIT_POLICY := PASSIVE

.PHONY: quickstart setup test test-all lint docs bench faults clean

quickstart: setup
	$(BIN)/melody-cm compare recipes/compare/tiny.yaml --train-missing --run quickstart --out runs/quickstart

setup: $(VENV)/.installed

# torch first, by its pinned version, so that no other requirement can bring in another build.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -m venv $(VENV) || (echo "python3 -m venv failed; on Debian: apt-get install python3-venv" && exit 1)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	# MusiCNN's weights; the package's own requirements are those of 2019, and none of its code is used.
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps musicnn
	touch $@

# One thread a process: two processes of tests share two cores.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-all: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not gpu and not network' --timeout 1800

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

faults: setup
	$(BIN)/python tests/faults/main.py --write docs/reliability.md

# The documentation as a site that works offline: build/site/index.html.
docs: setup
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/mkdocs build --strict --quiet

bench: setup
	for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:
	rm -rf $(VENV) build dist *.egg-info
