# Each target is one line that can be typed without make.
PYTHON ?= python3
INSTALL := -c requirements.lock -e .[dev]
BIN := .venv/bin
READY := .venv/ready

.PHONY: figures test lab check sync bench readme stress browser clean
figures: $(READY)  ## make the figures: notebooks that did not run here as they are; FORCE=1: all
	$(BIN)/vae-core reproduce $(if $(FORCE),--force)

test: $(READY)  ## the whole test suite, two tests at a time
	$(BIN)/python -m pytest -n 2 --dist worksteal

lab: $(READY)  ## JupyterLab on notebooks/
	VAE_CORE_DATA="$$($(BIN)/python -c 'from vae_core.sources.torchvision_files import data_root; print(data_root())')" VAE_CORE_BUILD="$${VAE_CORE_BUILD:-$$PWD/build}" VAE_CORE_RUNS="$${VAE_CORE_RUNS:-$$PWD/build/runs}" $(BIN)/jupyter lab notebooks $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB)

check: $(READY)  ## format, lint, types, notebook pairs in sync
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/python -m pytest -q tests/test_project.py

sync: $(READY)  ## bring each notebook pair together: the newer half wins, outputs stay
	$(BIN)/jupytext --sync notebooks/*.py && touch notebooks/*.py

bench: $(READY)  ## what is timed, half an hour: a likelihood bound, many small models, latent sliders, notebooks
	$(BIN)/python benchmarks/nll_speed.py && $(BIN)/python benchmarks/ensemble_speed.py && $(BIN)/python benchmarks/explorer_latency.py && $(BIN)/python benchmarks/reproduce.py

readme: $(READY)  ## put the recorded numbers and alt texts into README.md
	$(BIN)/python tests/readme.py

stress: $(READY)  ## kill -9 at many moments, twenty times in the real notebooks, and see that nothing is lost: half an hour
	$(BIN)/python -m pytest -m stress && $(BIN)/python tests/stress.py

browser:  ## install what the browser tests need (Debian, Ubuntu)
	command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium)

clean:  ## remove what can be made again, not .venv
	rm -rf build

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; this is %s. Name one: make PYTHON=python3.12" % sys.version.split()[0])'
	@echo "first use: a virtual environment in .venv, several GB, a few minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(INSTALL)
	touch $(READY)
