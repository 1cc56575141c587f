# `make demo` and `make test` need only Python 3.11 to 3.13 with venv: both install first.
PYTHON ?= python3
BIN := .venv/bin
DATA ?=
CAPTURE ?=

.PHONY: demo test lint bench results proto lock words install clean
demo: install
	$(BIN)/tacitly-sim demo --out out/demo $(if $(DATA),--data-dir $(DATA)) $(if $(CAPTURE),--capture)

# A file to a worker, and one worker more than two cores: tests wait for real processes much of the time.
test: install lint
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

# Twenty minutes; on a machine that does nothing else.
bench: install
	$(BIN)/python -m tacitly_simulations.bench --out out/bench.json
	$(BIN)/python -m tacitly_simulations.bench.engines --out out/engines.json
	$(BIN)/python -m tacitly_simulations.bench.engines_others --out out/engines_others.json

# What docs/results.md shows: an hour on two cores. DATA is CoAuthor's folder.
STUDY := $(BIN)/tacitly-sim run --data coauthor --data-dir $(DATA) --format json
results: install
	mkdir -p out/results
	$(STUDY) > out/results/main.json
	$(STUDY) --no-baselines --start public --train output.weight --train output.bias --clip-norm 2 \
		> out/results/small.json
	$(STUDY) --no-baselines --start public --epsilon 4 --private-rounds 8 --private-momentum 0.5 \
		--private-learning-rate 1.5 --simulated-cohort 300 --simulated-cohort 1000 \
		--simulated-cohort 3000 --simulated-cohort 10000 \
		> out/results/cohort.json
	$(BIN)/tacitly-sim plot out/results/cohort.json --out out/results/cohort.svg

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: .venv/installed

# torch is locked by version alone: its builds (CPU, CUDA) differ in content and needs.
.venv/installed: requirements.lock requirements-torch.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet -r requirements-torch.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

# Writes what is generated from the two protocols.
PROTOC := $(BIN)/python -m grpc_tools.protoc
proto: install
	$(PROTOC) --proto_path=common --python_out=common --pyi_out=common --grpc_python_out=common \
		common/tacitly_common/wire/desk.proto
	$(PROTOC) --proto_path=client --python_out=client --pyi_out=client --grpc_python_out=client \
		client/tacitly_client/control/control.proto

# Writes the closed list of the level `words` anew. It differs a little between versions of Python.
words: install
	$(BIN)/python -m tacitly_simulations.datasets.public_words > client/tacitly_client/public_words.txt

# Writes requirements.lock anew from pyproject.toml. pip-compile forgets that pynput, with what it
# needs, is for other systems than Linux.
lock: install
	CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --upgrade \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-options --strip-extras \
		--unsafe-package torch --unsafe-package pynput --unsafe-package evdev \
		--unsafe-package python-xlib --no-allow-unsafe --all-extras \
		--output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv out build dist
