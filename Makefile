PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Small matrices: one thread a test is fastest, and leaves the other cores to other work. Compiled
# modules are kept, as tests start many processes.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto
# With COVERAGE=1 `test` keeps a record of the lines that are reached.
TRACE := $(if $(COVERAGE),--cov --cov-report=)

.PHONY: help setup demo test more coverage test-extras test-lowest dist check slow fuzz faults gpu bench results

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/'

$(READY): pyproject.toml requirements/constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-c requirements/constraints.txt -e '.[dev]'
	touch $@

setup: $(READY) ## install everything into .venv

demo: setup ## the whole workflow on bundled real features
	$(BIN)/ltkit demo --overwrite

test: setup ## the tests, five minutes on two cores
	$(PYTEST) $(TRACE)

# A second environment, so that the tests of the core show that it needs none of the extras.
# onnxscript makes the ONNX files that the tests read; mapie is what conformal sets are checked against.
.venv-extras/.ready: pyproject.toml requirements/constraints.txt requirements/extras.txt
	$(PYTHON) -m venv .venv-extras
	.venv-extras/bin/python -m pip install --quiet --disable-pip-version-check \
		-c requirements/constraints.txt -c requirements/extras.txt \
		-e '.[dev,torchvision,timm,transformers,open-clip,onnx,parquet,figures,tensorboard]' onnxscript mapie
	touch $@

test-extras: .venv-extras/.ready ## the tests that need the optional packages, in .venv-extras
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 .venv-extras/bin/python -m pytest -m extras tests/extras

# The oldest versions that pyproject.toml allows; tests/test_packaging.py holds the two lists together.
.venv-lowest/.ready: pyproject.toml requirements/lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check \
		-c requirements/lowest.txt -e '.[dev]'
	touch $@

test-lowest: .venv-lowest/.ready ## the tests with the lowest versions that are declared, in .venv-lowest
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n auto

dist: setup ## build the sdist and the wheel, and try the wheel in a bare environment
	rm -rf dist .venv-dist
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv .venv-dist
	.venv-dist/bin/python -m pip install --quiet --disable-pip-version-check \
		-c requirements/constraints.txt dist/*.whl
	$(BIN)/python scripts/try_wheel.py .venv-dist

check: setup ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --strict examples/typed.py
	$(BIN)/lint-imports

more: setup ## other parameters of the tests
	$(PYTEST) -m 'more and not slow and not gpu and not extras'

coverage: setup ## the lines that test reaches, at least 95 % of all
ifndef COVERAGE
	$(MAKE) COVERAGE=1 test
endif
	$(BIN)/coverage report --skip-covered --fail-under=95

slow: setup ## the tests that take minutes
	$(PYTEST) -m slow

fuzz: .venv-extras/.ready ## damaged files of every kind, 10,000 a reader, into benchmarks/results/
	for kind in checkpoints files scratch; do OMP_NUM_THREADS=1 .venv-extras/bin/python \
		tests/fuzz/fuzz_$$kind.py --count 10000 --json benchmarks/results/fuzz_$$kind.json || exit 1; done

faults: setup ## kills, failing disks, two writers, two hours, into benchmarks/results/
	for kind in kill disk overlap; do $(BIN)/python tests/faults/$$kind.py \
		--json benchmarks/results/faults.json || exit 1; done

gpu: setup ## the tests that need a CUDA device
	$(PYTEST) -n 0 -m gpu

bench: setup ## measure the performance claims, into benchmarks/results/
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done
	$(BIN)/python benchmarks/write_docs.py

results: setup ## measure the accuracy tables of docs/results.md
	$(BIN)/python benchmarks/results_features.py
	$(BIN)/python benchmarks/write_docs.py
