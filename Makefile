PYTHON ?= python3
BIN := .venv/bin
CHAPTERS := 01-ANN 02-PyTorch-Basics 03-CNN 04-Transfer-Learning 05-Interpretability 06-Object-Detection \
	07-Segmentation 08-Keypoints-STN 09-GAN 10-FollowMe
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
TESTS := $(BIN)/python -m pytest -q --nbval-lax --nbval-current-env --nbval-cell-timeout=120 -n 2 --dist loadfile

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

lab: .venv/.ready ## Open the course in JupyterLab, at the README
	@$(BIN)/jupyter trust [01]*/*.ipynb >/dev/null # JupyterLab shows stored SVG plots only where it trusts
	$(BIN)/jupyter lab $(ROOT) --LabApp.default_url=/lab/tree/README.md

run: .venv/.ready ## Run one notebook without a browser and write an HTML page: make run NB=path (without NB: 2.14)
	$(BIN)/python -m utils.course run $(NB)

execute: .venv/.ready ## Run notebooks at their own parameters and store the outputs: make execute NB="path ..."
	$(BIN)/python -m utils.course execute $(NB)

test: lint ## Check style, run the unit tests, and all notebooks on tiny data (FULL=1: at their own parameters)
	$(if $(FULL),$(TESTS) --full --nbval-cell-timeout=900 -n 1,$(TESTS)) tests $(CHAPTERS)

report: .venv/.ready ## Measure every notebook against the aims of a good lesson, the worst first
	$(BIN)/python -m utils.course report

lint: .venv/.ready ## Check style, spelling, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	@said=$$($(BIN)/lint-imports --no-cache --no-logo) || { echo "$$said"; exit 1; }

data: .venv/.ready ## Write DATA.md out of the catalog (IMAGES=1: draw its images, too, for which all sets have to be here)
	$(BIN)/python -m utils.course.datasheet $(if $(IMAGES),--images)

results: .venv/.ready ## Read the results out of the notebooks into RESULTS.md and the README's table
	$(BIN)/python -m utils.course results

site: .venv/.ready ## Write every notebook as an HTML page, to build/site
	$(BIN)/python -m utils.course site

badges: .venv/.ready ## Stamp Colab and Binder badges into every notebook: make badges REPO=owner/name
	$(BIN)/python -m utils.course badges $(REPO)

bench: .venv/.ready ## Measure the training loop, the loader and the tiny run against plain code (JSON=file: also as JSON)
	$(BIN)/python tests/bench.py $(if $(JSON),--json $(JSON))

.venv/.ready: pyproject.toml constraints.txt
	@PYTHON='$(PYTHON)' sh .ci/setup

.PHONY: help lab run execute test report lint data results site badges bench
