# `make run` executes the tutorial into build/, `make test` runs the tests; each sets up .venv first if it must.
PYTHON ?= python3
CHOOSE_MODEL ?= gpt2-mini (7M)
NOTEBOOK = GPT2_instruction_finetuning
BIN = .venv/bin

run: .venv/run
	mkdir -p build
	CHOOSE_MODEL="$(CHOOSE_MODEL)" OUTPUT_DIR=build MPLBACKEND= $(BIN)/jupyter nbconvert --to notebook --execute \
		--ExecutePreprocessor.timeout=-1 --output-dir build $(NOTEBOOK).ipynb
	$(BIN)/jupyter nbconvert --coalesce-streams build/$(NOTEBOOK).ipynb  # in place: the progress bar becomes one line
	$(BIN)/jupyter nbconvert --to html build/$(NOTEBOOK).ipynb
	@echo "Executed notebook: build/$(NOTEBOOK).ipynb"
	@echo "As a web page:     build/$(NOTEBOOK).html"
	@echo "Answers, plots and the fine-tuned model: build/responses.json, build/*.png, build/gpt2-instruct.pt"

test: .venv/test
	$(BIN)/python -m pytest tests

.venv/run: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --quiet -r requirements.txt
	touch $@

# llms-from-scratch asks for an old numpy but runs with a new one, so it comes without its dependencies.
.venv/test: .venv/run tests/requirements.txt
	$(BIN)/pip install --disable-pip-version-check --quiet -r tests/requirements.txt
	$(BIN)/pip install --disable-pip-version-check --quiet --no-deps llms-from-scratch==1.0.19
	touch $@

# Makes the miniature anew: its instruction set, its pretraining (about 22 minutes on 2 cores; goes on where it was stopped),
# its checkpoint.
miniature: .venv/run
	$(BIN)/python miniature/instructions.py
	$(BIN)/python miniature/pretrain.py
	$(BIN)/python miniature/export.py

.PHONY: run test miniature
