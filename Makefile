# Everything happens in the project's own .venv; only Python 3.11 or newer, make and pip are needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Made again whenever what it was made from changes.
STAMP := $(VENV)/.setup

.PHONY: setup demo test lint types zoo zoo-packages bench-precision bench-latency calibrate-tolerance samples docs clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "edgeproof needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@# PyTorch first and alone: otherwise another package's wish pulls in a build with several GB of CUDA libraries.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --config-settings editable_mode=compat --editable '.[all,dev]'
	@# As pip does for what it does not install in place; where PYTHONDONTWRITEBYTECODE is set, nothing else would.
	$(BIN)/python -m compileall -q convert validators
	@touch $(STAMP)

demo: setup
	$(BIN)/python -m convert samples/digits.pt --to tflite,onnx,torchscript

# A process per core, four at most: each test file is one process's, and what it starts may take 3 GB.
test: lint types
	PYTHONHASHSEED=0 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup
	$(BIN)/mypy

# The zoo, kept in build/zoo and resumed; writes docs/zoo.md. A slice: make zoo ONLY='mobile*'. All of it also runs the
# slow tests. timm is installed without its dependencies, because torchvision has no CPU build and would replace
# PyTorch; torchvision and Keras 2 only build models, beside what the tool can see.
zoo: zoo-packages
	$(BIN)/python tests/zoo/runner.py $(if $(ONLY),--only '$(ONLY)') $(ZOO)
	$(if $(ONLY),,$(BIN)/python -m pytest -m slow)

zoo-packages: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt transformers
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps timm
	@test -d build/zoo/packages/tf_keras || $(BIN)/python -m pip install --quiet --no-deps --target build/zoo/packages \
		torchvision==0.28.0 tf_keras==2.21.0

# Full int8 of the digits and a part of the zoo beside what other tools' defaults make, kept in build/zoo/precision and
# resumed; writes the table of docs/precision.md. A slice: make bench-precision ONLY='mobile*'.
bench-precision: zoo-packages
	$(BIN)/python tests/zoo/precision.py $(if $(ONLY),--only '$(ONLY)') $(BENCH)

# Reported latencies beside other tools' measurements, comparisons of known answer, and memory from process to process,
# kept in build/latency and resumed; writes the tables of docs/latency.md. A slice: make bench-latency ONLY='digits*'.
bench-latency: zoo-packages
	$(BIN)/python tests/zoo/bench_latency.py $(if $(ONLY),--only '$(ONLY)') $(LATENCY)

# The bounds of validators/tolerance.py, held against right exports and planted faults of zoo models, kept in
# build/zoo/calibrate and resumed; writes the figures into docs/parity.md. A slice: make calibrate-tolerance ONLY='hf_*'.
calibrate-tolerance: zoo-packages
	$(BIN)/python tests/zoo/calibrate.py $(if $(ONLY),--only '$(ONLY)') $(CALIBRATE)

# Train every sample again; the torch hazards use the weights of the torch digits.
samples: setup
	PYTHONHASHSEED=0 $(BIN)/python samples/train_digits_torch.py
	PYTHONHASHSEED=0 $(BIN)/python samples/train_digits_keras.py
	PYTHONHASHSEED=0 $(BIN)/python samples/train_hazards_torch.py
	PYTHONHASHSEED=0 $(BIN)/python samples/train_hazards_keras.py
	PYTHONHASHSEED=0 $(BIN)/python samples/train_bert_digits.py

# Write what is generated from the code.
docs: setup
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) build
