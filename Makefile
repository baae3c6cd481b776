# make train   trains a reader on captcha_images/ with the notebook, as users do
# make test    checks style and runs every test
# make test-browser   tries the notebook in JupyterLab and the page, in a chromium that is installed
# make torture   twenty kills of one training, two killed hosts, a hundred thousand damaged images (15 minutes)
# make mutants   changes the code in small ways and counts the changes that no test notices
# make crossval DATA=captcha_images   cross-validates the notebook on a folder of images
# make bench DATA=captcha_images   measures speed beside other systems, and rewrites benchmarks/RESULTS.md (hours)
# make bench-quick DATA=captcha_images   the main ratios, in about ten minutes
# make notebook   runs the notebook on captcha_images/ and stores its outputs in it
# Each creates .venv and installs what it needs. PYTHON=python3.12 chooses another Python.

PYTHON ?= python3
BIN = .venv/bin

.PHONY: train test test-browser torture mutants crossval bench bench-quick notebook

train: .venv/installed
	@# runipy is not there on Python 3.12 and later.
	if [ -x $(BIN)/runipy ]; then $(BIN)/runipy ocr.ipynb; else $(BIN)/ipython ocr.ipynb; fi

test: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest tests/*.py --numprocesses 2 --dist worksteal \
		--cov --cov-report term:skip-covered --cov-fail-under 95

test-browser: .venv/installed-dev
	$(BIN)/python -m pytest tests/browser

torture: .venv/installed-dev
	$(BIN)/python -m pytest tests/torture --capture=no

# What is not named here trains: alphabet, decoding, images, the schedule, the pure parts of metrics, splitting.
mutants: .venv/installed-dev
	$(BIN)/mutmut run "alphabet.*" "decoding.*" "images.*" "SquareRootScheduler.*" "metrics.x_*" "utils.x_split_data*"
	$(BIN)/mutmut results
	$(BIN)/python -m pytest tests/mutations

DATA ?= captcha_images

crossval: .venv/installed
	$(BIN)/python -m tools.crossval "$(DATA)"

bench: .venv/installed .venv-fast-plate-ocr/installed
	$(BIN)/python -m benchmarks.bench "$(DATA)"

bench-quick: .venv/installed .venv-fast-plate-ocr/installed
	$(BIN)/python -m benchmarks.bench "$(DATA)" --quick

notebook: .venv/installed-dev
	$(BIN)/python -m tools.notebook

.venv/installed: requirements.txt constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.txt --constraint constraints.txt
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt requirements-page.txt
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt --constraint constraints.txt
	touch $@

# A rival of the benchmarks; it needs other versions than this project.
.venv-fast-plate-ocr/installed: benchmarks/requirements-fast-plate-ocr.txt
	$(PYTHON) -m venv .venv-fast-plate-ocr
	.venv-fast-plate-ocr/bin/python -m pip install --quiet --requirement $<
	touch $@
