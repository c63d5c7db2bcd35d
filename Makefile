# Everything runs in .venv, which the first target that needs it creates.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help demo test slow notebooks browser executorch sweeps experiments check docs format clean
.PHONY: faults fuzz hosts lock licences sbom

help:
	@echo "make demo    the whole flow on this machine, in minutes"
	@echo "make test    the tests"
	@echo "make slow    the long tests as well"
	@echo "make notebooks  the notebooks of examples/, from top to bottom; two minutes"
	@echo "make browser the tests of web pages, in Chromium"
	@echo "make executorch  the tests of exports for phones and boards"
	@echo "make sweeps  the tests with NNI's manager, the one in Chromium included; minutes"
	@echo "make experiments  those and NNI's defects, each with and without its answer; 6 minutes"
	@echo "make faults  stages that are killed, or lack memory or disk, at random moments; root"
	@echo "make hosts   two hosts that train together, and NNI's remote service; root, minutes"
	@echo "make fuzz    hostile files for every reader"
	@echo "make lock, make licences, make sbom  hashes, licences and a bill of the tested packages"
	@echo "make check   ruff and pyright"
	@echo "make docs    the documentation as a site, in docs/_build/html"
	@echo "make format  ruff format and fixes"

demo: .venv/installed
	$(BIN)/dcsnas demo

test: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

slow: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "slow or not slow"

notebooks: .venv/installed-dev
	$(BIN)/python examples/run_notebooks.py $(NOTEBOOKS)

browser: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow tests/experiments/test_web_page.py \
		tests/reports/test_page_in_browser.py

executorch: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow tests/deployment/test_executorch.py

# they wait more than they compute, so two at a time
EXPERIMENTS = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow -n 2 --dist loadgroup

sweeps: .venv/installed-dev
	$(EXPERIMENTS) tests/experiments --ignore-glob "*/test_nni_patches*.py"

experiments: .venv/installed-dev
	$(EXPERIMENTS) tests/experiments

# of make faults and make fuzz; 100 and 100000 for the long ones
KILLS ?= 16
CASES ?= 4000

faults: .venv/installed-dev
	@rm -f faults.json  # a record that is there would go on
	PYTHONPATH=tests $(BIN)/python -W ignore -m faults --kills $(KILLS) --out faults.json

# they skip what they lack; again and again, with one of two lost: python -m hosts --runs 20
hosts: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -rs -m hosts tests/hosts

fuzz: .venv/installed-dev
	$(INSTALL) atheris
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -W ignore -m fuzz --cases $(CASES)

lock: .audit/installed
	.audit/bin/uv pip compile constraints.txt --quiet --generate-hashes --output-file requirements.lock

licences: .audit/installed .venv/installed-dev
	.audit/bin/pip-licenses --python $(BIN)/python --format markdown

sbom: .audit/installed .venv/installed-dev
	.audit/bin/cyclonedx-py environment $(BIN)/python --output-file sbom.json

# tools that look at the packages from outside, so that they are none of them
.audit/installed:
	$(PYTHON) -m venv .audit
	.audit/bin/python -m pip install --quiet --disable-pip-version-check \
		pip-licenses==5.5.5 cyclonedx-bom==7.5.0 uv==0.13.9
	touch $@

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# every page anew: some are made from code that Sphinx does not watch
docs: .venv/installed-docs
	$(BIN)/python -m sphinx -b html -j 2 -E -q -W --keep-going docs docs/_build/html
	@echo "docs/_build/html/index.html"

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) -e .
	@# NNI writes a file into itself when it first meets a torch version; do it before parallel use
	@# (dcsnas lets a torchvision for CUDA import, which a second install finds)
	$(BIN)/python -W ignore -c "import dcsnas, nni.nas.nn.pytorch"
	touch $@

.venv/installed-dev: .venv/installed
	$(INSTALL) -e '.[dev,docs]'
	@# without what they ask for: a torch for CUDA
	$(INSTALL) --no-deps timm torchvision
	@# the same, and Core ML's tools, tokenizers and others; without a wheel its tests skip themselves
	-$(INSTALL) --no-deps executorch torchao ruamel.yaml
	touch $@

.venv/installed-docs: .venv/installed
	$(INSTALL) -e '.[docs]'
	touch $@

clean:
	rm -rf docs/_build .venv .audit .pytest_cache .ruff_cache .hypothesis
