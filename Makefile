# make train   trains a reader on captcha_images/ with the notebook, as users do
# make test    checks style and runs every test
# make test-browser   runs the notebook in JupyterLab, in a chromium that is installed
# make crossval DATA=captcha_images   cross-validates the notebook on a folder of images
# make notebook   runs the notebook on captcha_images/ and stores its outputs in it
# Each creates .venv and installs what it needs. PYTHON=python3.12 chooses another Python.

PYTHON ?= python3
BIN = .venv/bin

.PHONY: train test test-browser crossval notebook

train: .venv/installed
	@# runipy is not there on Python 3.12 and later.
	if [ -x $(BIN)/runipy ]; then $(BIN)/runipy ocr.ipynb; else $(BIN)/ipython ocr.ipynb; fi

test: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest --ignore tests/browser

test-browser: .venv/installed-dev
	$(BIN)/python -m pytest tests/browser

DATA ?= captcha_images

crossval: .venv/installed
	$(BIN)/python -m tools.crossval "$(DATA)"

notebook: .venv/installed-dev
	$(BIN)/python -m tools.notebook

.venv/installed: requirements.txt constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.txt --constraint constraints.txt
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt --constraint constraints.txt
	touch $@
