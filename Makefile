# `make demo` shows the whole path, `make test` runs every check; both make their own environment in .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-exporter test-others thorough chaos fuzz test-versions test-ovmsclient lint format wire schema benchmarks matrix clean

demo: $(INSTALLED)
	$(BIN)/python examples/demo.py

# Two at a time: most machines have two cores, and half of the time is waiting for processes.
# What needs no TensorFlow is tested in a process that never imports it.
test: lint
	@echo "Two suites run side by side; what each prints comes when it ends, after some minutes."
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-exporter test-others

test-exporter: $(INSTALLED)
	$(BIN)/pytest tests/exporter tests/e2e

test-others: $(INSTALLED)
	$(BIN)/pytest tests/core tests/client tests/serving tests/conformance
	$(BIN)/pytest tests/models

# The wire against protobuf and TensorFlow Serving's own classes, with 10,000 examples a property.
thorough: $(INSTALLED)
	KERASHIP_EXAMPLES=10000 $(BIN)/pytest --timeout=7200 tests/core/test_wire_bytes.py tests/core/test_wire_equality.py

# 10,000 calls through a proxy that breaks connections, to servers that are killed.
chaos: $(INSTALLED)
	$(BIN)/python benchmarks/chaos.py

# A million hostile requests, random and led by coverage.
fuzz: $(INSTALLED)
	$(BIN)/python benchmarks/fuzz.py

# The client on the oldest and the newest grpcio and protobuf, each in an environment of its own.
test-versions: $(INSTALLED)
	$(BIN)/python .ci/client_versions.py

# OpenVINO's client for TensorFlow Serving's API against the server, in an environment of its own.
test-ovmsclient: $(INSTALLED)
	$(BIN)/python .ci/ovmsclient.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The descriptor set, from the .proto files; a test compares the two.
wire: $(INSTALLED)
	$(BIN)/python .ci/compile_wire.py

# manifest.schema.json, from the classes in bundle.py; a test compares the two.
schema: $(INSTALLED)
	$(BIN)/python -c "import json, keraship.bundle as b; print(json.dumps(b.manifest_schema(), indent=2))" > src/keraship/manifest.schema.json

benchmarks: $(INSTALLED)
	$(BIN)/python benchmarks/start_up.py
	$(BIN)/python benchmarks/input_pipeline.py
	$(BIN)/python benchmarks/client.py
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/hot_swaps.py
	$(BIN)/python benchmarks/hot_swaps.py

# Every model of the zoo as every artifact, into docs/matrix.md; goes on where it was interrupted.
matrix: $(INSTALLED)
	$(BIN)/python benchmarks/matrix.py

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist src/keraship.egg-info
