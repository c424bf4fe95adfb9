# make quickstart: set up, hear the demo systems side by side, fine-tune one. make train-tiny: all systems from nothing.
# make test, make lint: what CI runs. make test-all: the slow tests too.
# make faults: kills, full disks, damaged files and 2,000 hostile inputs, about 15 minutes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Those that need nothing; the others take what was trained as an argument.
BENCHMARKS := encoded_cache evaluation fine_path language_model loader manifest recurrence speed
export OMP_WAIT_POLICY := PASSIVE

.PHONY: quickstart quickstart-plan train-tiny setup test test-all lint docs bench faults clean

# Half a minute of training: enough to see that the trainer works here and that the loss falls.
SHORT := --data.corpus.num_clips 64 --data.batch_size 8 --trainer.max_steps 40 --trainer.val_check_interval 20 \
	--trainer.callbacks [] --model.optimization.learning_rate 3e-4 --model.optimization.warmup_steps 4

quickstart: quickstart-plan setup
	@echo "stage 1 of 2: the demo systems make 8 prompts, beside real music"
	$(BIN)/melody-cm compare recipes/compare/demo.yaml --out runs/quickstart
	@echo "stage 2 of 2: MusicCM's teacher is fine-tuned on procedural music for 40 steps"
	$(BIN)/melody-cm train recipes/musiccm/3_teacher.yaml --size cpu --from demo:musiccm_teacher --run quickstart $(SHORT)
	@echo "Open runs/quickstart/report.html. Then try, after . $(BIN)/activate:"
	@echo "  melody-cm generate demo:musiccm --prompt 'slow solo piano in a minor key' --seconds 10 --out pieces"
	@echo "  melody-cm train recipes/musiccm/3_teacher.yaml --size cpu --from demo:musiccm_teacher --run mine --corpus FOLDER"
	@echo "  melody-cm compare recipes/compare/tiny.yaml --train-missing --run tiny --out runs/tiny"

quickstart-plan:
	@echo "plan: after the set-up, 2 stages, about five minutes on 2 cores: the demo systems side by side (four minutes), a short fine-tuning (one)"

# Every system from nothing, at a size that only proves that the path works: a quarter of an hour or so on 2 cores.
train-tiny: setup
	$(BIN)/melody-cm compare recipes/compare/tiny.yaml --train-missing --run tiny --out runs/tiny

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
