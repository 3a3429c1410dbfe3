# make run    set up, then serve the built-in pair on http://127.0.0.1:7860
# make test   set up, then run all tests (installs Chromium and PostgreSQL with apt where missing)
# make check  lint, format, types           make fix     mend what can be mended by itself
# make bench  cost of the app beside the bare model server, in ratios (not in CI)
# make bench-weights  the published pair at full size, random weights: load seconds, memory (not in CI)
# make bench-precisions  what rounding weights costs: right answers of the built-in pair (not in CI)
# make bench-peers  decode and first token beside llama.cpp and chatglm.cpp, built here (not in CI)
# make simulate  whether intervals, tests and plans keep their word, by simulation (not in CI)
# make bench-summary  seconds and memory of the summary for 10^4 to 10^6 score rows (not in CI)
# make crash  kill -9 straight after "saved", 200 times (not in CI)

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
# On Linux the default index's torch brings gigabytes of CUDA; this one has the CPU build.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH  := $(shell grep '^torch==' requirements.txt)
ARGS   ?=
# Half of what tests do is wait; one worker has the browser, the other all else.
WORKERS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: run test check fix bench bench-weights bench-precisions bench-peers bench-summary simulate crash clean

run: $(VENV)/.run
	$(BIN)/python app.py serve $(ARGS)

test: $(VENV)/.dev
	.ci/system-packages
	$(BIN)/python -m pytest --numprocesses $(WORKERS) $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.overhead $(ARGS)

bench-weights: $(VENV)/.dev
	$(BIN)/python -m benchmarks.weights $(ARGS)

bench-precisions: $(VENV)/.dev
	$(BIN)/python -m benchmarks.precisions $(ARGS)

bench-peers: $(VENV)/.dev
	$(BIN)/python -m benchmarks.peers --out build/peers/report $(ARGS)

simulate: $(VENV)/.dev
	$(BIN)/python -m benchmarks.simulate $(ARGS)

bench-summary: $(VENV)/.dev
	$(BIN)/python -m benchmarks.summary $(ARGS)

crash: $(VENV)/.dev
	$(BIN)/python -m benchmarks.crash $(ARGS)

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Twopane needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "Python has no venv module: apt-get install python3-venv"; exit 1; }

$(VENV)/.run: requirements.txt | $(BIN)/python
	@echo "Installing the packages (once, a few minutes)..."
	@$(PIP) --index-url $(TORCH_INDEX) --retries 0 --timeout 5 $(TORCH) 2>/dev/null \
		|| $(PIP) $(TORCH)
	@$(PIP) --requirement requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt requirements-readers.txt $(VENV)/.run
	@$(PIP) --requirement requirements-dev.txt
	@$(PIP) --no-deps --requirement requirements-readers.txt
	@touch $@
