# make train      trains a reader on captcha_images/ (make train DATA=~/meters: on your own images)
# make test       checks the style and the types, runs the fast tests and the notebook once (3 minutes)
# make test-all   everything: other ways to run, devices, browser, wheel, other Pythons, documentation
# make label DATA=FOLDER        opens a page to label images; a reader trained meanwhile fills it in
# make crossval DATA=FOLDER     cross-validates the notebook on a folder of images
# make bench DATA=FOLDER        measures speed and compares it with other systems (hours)
# make bench-quick DATA=FOLDER  the main ratios, in about ten minutes
# make kinds DATA="FOLDER …"    trains on each set of images and compares with other systems (hours)
# make base       draws 300,000 images and trains the base reader on them (2 hours); resumes after a kill
# make notebook   runs the notebook on captcha_images/ and stores its outputs in it
# make docs       builds the documentation site into site/
# make torture    twenty kills of one training, 100,000 damaged images (15 minutes)
# make mutants    changes the code in small ways and counts the changes that no test notices
# Each target creates .venv and installs what it needs. PYTHON=python3.12 chooses another Python.

SHELL = /bin/bash
.SHELLFLAGS = -o pipefail -c
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DATA ?= captcha_images
UV := $(shell command -v uv)

# Both print a line for each package; SHOW keeps the steps.
ifdef UV
NEW_VENV = uv venv --quiet --seed --python "$$(command -v $(PYTHON))"
INSTALL = uv pip install --python $(BIN)/python
SHOW = 2> >(grep --line-buffered -v '^ [-+~] ' >&2)
else
NEW_VENV = $(PYTHON) -m venv
INSTALL = $(BIN)/python -m pip install --progress-bar off
SHOW = | awk '/Collecting |Using cached|Downloading / && ++n % 50 == 0 {print "… " n " steps"} /^Installing/ {print "installing …"} {fflush()}'
endif

# TensorFlow writes these lines whatever its log level; nothing in them is about this project.
NOISE = ^(WARNING: All log messages before absl|I0000 00:00:)

.PHONY: help train test test-all torture mutants label crossval bench bench-quick kinds base notebook docs

help:
	@sed -n 's/^# //p' Makefile | head -14

train: $(VENV)/installed
	@$(if $(filter-out captcha_images,$(DATA)),OCR_DATA_DIR="$(DATA)") \
		$(BIN)/ipython --no-term-title ocr.ipynb 2> >(grep --line-buffered -vE '$(NOISE)' >&2)

# COVERAGE=1 measures the coverage in test-all, which then takes half as long again.
test: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/*.py --numprocesses 2 --dist worksteal \
		$(if $(COVERAGE),--cov --cov-report=)

test-all: test docs
	$(BIN)/python -m pytest tests/integration --numprocesses 2 --dist worksteal \
		--durations 15 $(if $(COVERAGE),--cov --cov-append --cov-report term:skip-covered --cov-fail-under 95)

torture: $(VENV)/installed-dev
	$(BIN)/python -m pytest tests/torture --capture=no

# What is not named here trains: alphabet, decoding, images, the schedule, the pure parts of metrics, splitting.
mutants: $(VENV)/installed-dev
	$(BIN)/mutmut run "snippet_ocr.alphabet.*" "snippet_ocr.decoding.*" "snippet_ocr.images.*" \
		"SquareRootScheduler.*" "training.metrics.x_*" "utils.x_split_data*"
	$(BIN)/mutmut results
	$(BIN)/python -m pytest tests/mutations

# Labelling the included images would replace the labels in their names.
label: $(VENV)/installed
	$(if $(filter captcha_images,$(DATA:%/=%)),$(error Expected a folder of your own: make label DATA=FOLDER))
	@$(BIN)/python -m tools.label "$(DATA)"

crossval: $(VENV)/installed
	$(BIN)/python -m tools.crossval "$(DATA)"

bench: $(VENV)/installed .venv-fast-plate-ocr/installed
	$(BIN)/python -m benchmarks.bench "$(DATA)"

bench-quick: $(VENV)/installed .venv-fast-plate-ocr/installed
	$(BIN)/python -m benchmarks.bench "$(DATA)" --quick

# A system that cannot be installed does not stop the others. OPTIONS="--sets NAME --seeds 1" runs a part.
RIVALS = fast-plate-ocr kraken rapidocr ddddocr
kinds: $(VENV)/installed
	@$(MAKE) --keep-going $(RIVALS:%=.venv-%/installed) || true
	$(BIN)/python -m benchmarks.kinds $(DATA) $(OPTIONS)

# Two trainings: a long one, and a short one at a low learning rate. To start anew, delete runs/base_*.
BASE = OCR_DATA_DIR=runs/base_images OCR_VALIDATION_SHARE=0.01 OCR_TEST_SHARE=0.01 OCR_IMAGE_HEIGHT=48 \
	OCR_BATCH_SIZE=32 OCR_DROPOUT=0.05 OCR_AUGMENTATION=0.5 OCR_PATIENCE=1000 OCR_MAX_STEPS_PER_EPOCH=1000
base: runs/base_2/metrics.json
	cp runs/base_2/reader.keras training/base.keras
	cp runs/base_2/reader.onnx snippet_ocr/base.onnx

runs/base_2/metrics.json: runs/base_1/metrics.json
	@$(BASE) OCR_RUN_NAME=base_2 OCR_BASE_READER=runs/base_1/reader.keras OCR_EPOCHS=3 OCR_WARMUP_EPOCHS=0 \
		OCR_LEARNING_RATE=0.0006 $(MAKE) --no-print-directory train

runs/base_1/metrics.json: | runs/base_images
	@$(BASE) OCR_RUN_NAME=base_1 OCR_BASE_READER= OCR_EPOCHS=11 OCR_WARMUP_EPOCHS=2 \
		$(MAKE) --no-print-directory train

runs/base_images: | $(VENV)/installed
	@mkdir -p runs; rm -rf $@.unfinished
	@$(BIN)/python -m tools.draw_text $@.unfinished --count 300000 --seed 1
	@mv $@.unfinished $@

notebook: $(VENV)/installed-dev
	$(BIN)/python -m tools.notebook

docs: .venv-docs/installed
	.venv-docs/bin/properdocs build --strict --quiet

# runipy 0.1.5 needs tools/runipy_build, and no build environment of its own, to build on Python 3.12 and later.
$(VENV)/installed: requirements.txt constraints.txt
	@echo "Installing TensorFlow and about 130 other packages into $(VENV) (2.7 GB). This happens once."
	@[ -x $(BIN)/python ] || $(NEW_VENV) $(VENV)
	@$(INSTALL) --quiet setuptools==80.9.0 wheel
	@PYTHONPATH="$(CURDIR)/tools/runipy_build" $(INSTALL) --quiet --no-build-isolation --no-deps runipy==0.1.5
	@$(INSTALL) --requirement requirements.txt --constraint constraints.txt $(SHOW)
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	@$(INSTALL) --requirement requirements-dev.txt --constraint constraints.txt $(SHOW)
	@touch $@

.venv-docs/installed: requirements-docs.txt
	@$(NEW_VENV) .venv-docs
	@$(subst $(VENV)/,.venv-docs/,$(INSTALL)) --quiet --requirement $<
	@touch $@

# Systems that the benchmarks compare with; they need other versions than this project.
.venv-%/installed: benchmarks/requirements-%.txt
	@[ -x .venv-$*/bin/python ] || $(NEW_VENV) .venv-$*
	@$(subst $(VENV)/,.venv-$*/,$(INSTALL)) --quiet --requirement $< 2>&1 | tee .venv-$*/install.log
	@touch $@
