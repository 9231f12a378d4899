# `make rollout` sees a forecast, `make test` checks the whole house. Both make their own
# environment in $(VENV) on the first run and reuse it afterwards.

VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
PYTEST_ARGS ?=

.PHONY: rollout sample packaged test test-slow test-lowest fuzz mutation benchmark benchmark-gpu lint types imports docs check clean

rollout: $(VENV)/.installed
	$(BIN)/forecast rollout --horizon 6 --output forecast.zarr --gif forecast.gif --overwrite

# A sample of simulated streets whose seeds no packaged checkpoint is trained on. The one that is there
# was made by an earlier simulation: made anew, traffic is another, and so are all scores of it.
sample: $(VENV)/.installed-dev
	rm -rf forecast/packaged/sample.zarr
	$(BIN)/forecast prepare sumo 902:906 907 --stride 12 --output forecast/packaged/sample.zarr

# A packaged checkpoint from nothing: simulates traffic, trains in one run, checks, and copies it.
# Interrupted, it goes on where it stopped. The one that is there was made by several runs, which its
# model.json names.
RUN = runs/packaged
packaged: $(RUN)/model.safetensors
	$(BIN)/forecast doctor --leak $(RUN)
	$(BIN)/forecast rollout --model $(RUN) --output $(RUN)/forecast.zarr --gif '' --overwrite
	cp $(RUN)/model.safetensors $(RUN)/model.json forecast/packaged/

$(RUN).zarr: $(VENV)/.installed-dev
	$(BIN)/forecast prepare sumo 3000:3700 --stride 3 --output $@ --resume

$(RUN)/model.safetensors: | $(RUN).zarr
	OMP_NUM_THREADS=1 $(BIN)/forecast train --config configs/packaged.yaml --data $(RUN).zarr \
		--output $(RUN) $(if $(wildcard $(RUN)/last.ckpt),--resume)

# As many processes as cores, each with one thread; a file's fixtures are made in one of them.
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "not slow and not benchmark" \
		$(PYTEST_ARGS)

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

# The quick tests with the oldest release of every dependency that pyproject.toml admits, in an
# environment of its own; what only tests need is of any age. Exports need a newer torch than all
# else does (the extra `export`), so that here they are refused, which is tested as well.
LOWEST = .venv-lowest
test-lowest: $(LOWEST)/.installed
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n auto --dist loadfile \
		-m "not slow and not benchmark" $(PYTEST_ARGS)

$(LOWEST)/requirements.txt: pyproject.toml
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install --quiet uv
	$(LOWEST)/bin/uv pip compile --quiet --resolution lowest-direct --annotation-style line \
		--extra sumo --extra netcdf --extra s3 --extra ros pyproject.toml \
		| sed -n '/(pyproject.toml)/s/ *#.*//p' > $@.partial
	mv $@.partial $@

$(LOWEST)/.installed: $(LOWEST)/requirements.txt
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --constraint $< \
		--editable ".[sumo,netcdf,s3,ros,dev]"
	touch $@

# Damages recordings of every source for so many seconds each; what fails is in fuzz-failures.
SECONDS ?= 600
fuzz: $(VENV)/.installed-dev
	FUZZ_SECONDS=$(SECONDS) $(BIN)/python -m pytest -q -s --timeout=0 tests/property/test_sources.py

# Mutants of these files that no quick test notices, out of a random sample of each.
FILES ?= forecast/evaluation/counts.py forecast/evaluation/scores.py
mutation: $(VENV)/.installed-dev
	$(BIN)/python -m tests.mutation $(FILES)

# DATA=some.zarr measures on a store of your own instead of the packaged sample.
benchmark: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m benchmark -s -q tests/benchmarks

# Rollouts a second on a CUDA GPU, and their steps compiled.
benchmark-gpu: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m benchmark -s -q -rs tests/benchmarks/test_gpu.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

imports: $(VENV)/.installed-dev
	$(BIN)/lint-imports

docs: $(VENV)/.installed-dev
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

check: lint types imports test docs

clean:
	rm -rf $(VENV) $(LOWEST) docs/_build build .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --editable ".[sumo,dev,docs]"
	touch $@ $(VENV)/.installed
