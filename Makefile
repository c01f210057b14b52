# make demo: the main job on Python alone. make test: everything the tests need, then the tests.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := plugins/podd_setns plugins/podd_docker plugins/podd_runc

.PHONY: demo test check bench lock clean

demo: $(VENV)/.run
	$(BIN)/python tools/demo.py

test: $(VENV)/.test
	tools/test-needs
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

check: $(VENV)/.test
	$(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy && $(BIN)/lint-imports

bench: $(VENV)/.run
	$(BIN)/python bench/bench.py $(ARGS)

# The lock files pin every package with its hash; the projects themselves are installed from this folder.
$(VENV)/.run: requirements/run.txt pyproject.toml $(wildcard plugins/*/pyproject.toml)
	$(call install,requirements/run.txt)

$(VENV)/.test: requirements/test.txt $(VENV)/.run
	$(call install,requirements/test.txt)

define install
	@echo "installing $(1) into $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(1)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		--editable . $(foreach plugin,$(PLUGINS),--editable $(plugin))
	@touch $@
endef

lock:
	$(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-annotate --no-header \
		--output-file requirements/run.txt pyproject.toml requirements/build.in requirements/plugins.in
	$(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-annotate --no-header \
		--extra test --constraint requirements/run.txt --output-file requirements/test.txt pyproject.toml requirements/build.in requirements/plugins.in

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
