# Lists the commands of the project. Each one sets up what it needs first.
PYTHON ?= python3
RUN := .venv/bin/python
COMMAND := $(RUN) -m anonymize_faces.tools.command anonymize_faces
NAME ?= $(filter-out _% gpu,$(basename $(notdir $(wildcard benchmarks/*.py))))

.DEFAULT_GOAL := help
.PHONY: help setup demo test serve style lint demo-model bench gpu clean

help: ## lists the commands
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | expand -t 14
	@echo 'Variables: PYTHON=python3.12 chooses the Python, COMFYUI_DIR=… a ComfyUI of your own, TORCH_SPEC=… another torch,'
	@echo '           MODEL=modern the demo model that reads a language model.'

setup: ## makes .venv and build/ComfyUI, or completes them
	@$(PYTHON) -m tools.setup

demo: setup ## learns a prefix in a real ComfyUI, draws people without and with it, prints the figures; goes on if broken off
	@$(COMMAND).demo.main_job $(if $(MODEL),--model $(MODEL))

test: style ## checks style and types and runs all tests, says which took longest and, on Python 3.12 and newer, how much of the code they run
	@$(RUN) -m anonymize_faces.tools.tests

serve: setup ## starts ComfyUI with the extension, for the browser
	@$(COMMAND).tools.serve

lint: style ## checks style, formatting and types
	@$(RUN) -m mypy

style: setup
	@$(RUN) -m ruff check
	@$(RUN) -m ruff format --check
	@mkdir -p build/types && ln -sfn "$(CURDIR)" build/types/anonymize_faces

demo-model: setup ## builds the demo models' weights anew (two hours and a half on a CPU)
	@$(COMMAND).demo.making --afresh

bench: setup ## runs all benchmarks, or one: make bench NAME=training_step
	@for name in $(NAME); do $(COMMAND).benchmarks.$$name || exit $$?; done

gpu: setup ## measures learning on a graphics card with full-size layouts of SD1.5, SDXL and Flux
	@$(RUN) -m anonymize_faces.benchmarks.gpu

clean: ## removes what demo and tests wrote; .venv and build/ComfyUI stay
	@rm -rf build/demo build/demo-modern build/types build/.coverage* build/.environment-* .pytest_cache .ruff_cache .hypothesis
