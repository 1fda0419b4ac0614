# `make run` executes the tutorial into build/ and writes it as a site, `make zh` does so in Chinese, `make site` writes the
# site without executing anything, `make chat` talks to the model, `make test` runs all tests, `make bench` measures speed and
# memory. Each of them sets up .venv first if it isn't there.
PYTHON ?= python3
CHOOSE_MODEL ?= gpt2-mini (7M)
NOTEBOOK = GPT2_instruction_finetuning
CHINESE = translations/$(NOTEBOOK).zh.ipynb
BIN = .venv/bin
# Python compiles a module at its first import and keeps the result, so there is no need to compile all of them here.
PIP = $(BIN)/pip install --disable-pip-version-check --no-compile --quiet --constraint constraints.txt
export PYTHONDONTWRITEBYTECODE =

run: .venv/run
	mkdir -p build
	$(call execute,$(NOTEBOOK).ipynb,$(NOTEBOOK))
	@echo "Answers, plots and the fine-tuned model: build/responses.json, build/*.png, build/gpt2-instruct.pt"

# The same in Chinese: translations/, brought up to date with the English notebook.
zh: .venv/run
	mkdir -p build
	$(BIN)/python scripts/translate.py
	$(call execute,$(CHINESE),$(NOTEBOOK).zh)

define execute  # a notebook into build/, and whatever editions lie there as a site. Arguments: path, name
	CHOOSE_MODEL="$(CHOOSE_MODEL)" OUTPUT_DIR=build MPLBACKEND= $(BIN)/jupyter nbconvert --to notebook --execute \
		--ExecutePreprocessor.timeout=-1 --ExecutePreprocessor.record_timing=False --output-dir build $(1)
	$(BIN)/jupyter nbconvert --coalesce-streams build/$(2).ipynb  # in place: the progress bar becomes one line
	@echo "Executed notebook: build/$(2).ipynb"
	$(BIN)/python -m tutorial.page build/site build/$(NOTEBOOK)*.ipynb $(SITE)
endef

# The site from both notebooks as they were committed, executed; SITE has more arguments for `python -m tutorial.page`.
site: .venv/run
	$(BIN)/python -m tutorial.page build/site $(NOTEBOOK).ipynb $(CHINESE) $(SITE)

# Talk to the model that `make run` saved, in the terminal.
chat: .venv/run
	$(BIN)/python scripts/chat.py

# Two processes of one thread each: models this small gain little from more threads. Each has half of the tests; the one
# that finishes first takes over some of the other's.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal tests

lint: .venv/test
	$(BIN)/ruff check
	$(BIN)/ruff check --line-length 88 $(NOTEBOOK).ipynb

.venv/run: requirements.txt constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) -r requirements.txt
	touch $@

.venv/test: .venv/run tests/requirements.txt benchmarks/requirements.txt
	$(PIP) -r tests/requirements.txt
	$(PIP) --no-deps -r benchmarks/requirements.txt
	touch $@

# Writes constraints.txt: every version that the requirements and the tests bring along, for Python 3.11 and newer on Linux,
# macOS and Windows. Versions that are there already stay, as far as the requirements allow; delete the file to renew all.
constraints:
	$(PYTHON) -m venv build/uv
	build/uv/bin/pip install --disable-pip-version-check --quiet uv==0.13.9
	build/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --no-annotate \
		--custom-compile-command "make constraints" tests/requirements.txt --output-file constraints.txt

# 20 to 40 minutes on two cores that do nothing else. INSTRUCTION_DATA is the path of the published data set.
bench: .venv/bench
	$(BIN)/python -m benchmarks.bench

.venv/bench: .venv/test benchmarks/bench-requirements.txt
	$(PIP) -r benchmarks/bench-requirements.txt
	touch $@

# Checks that OpenAI's weights give the published results: make check-weights MODEL=355M
check-weights: .venv/run
	$(BIN)/python scripts/check_weights.py $(MODEL)

# Makes the miniature again: its instruction set, its pretraining (45 minutes on 2 slow cores; it resumes after an
# interruption), its checkpoint.
miniature: .venv/run
	$(BIN)/python -m miniature.instructions
	$(BIN)/python -m miniature.pretrain
	$(BIN)/python -m miniature.export

.PHONY: run zh site chat test lint constraints bench check-weights miniature
