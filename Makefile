# Two commands carry a newcomer: `make demo` and `make test`. Each does all of its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test check bench runtime docs soak clean

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.server  ## a BOINC project, two volunteers and pi, on this machine
	@scripts/system-packages boinc-client
	@$(BIN)/python scripts/demo.py

# The tests mostly wait: for clients, servers, limits. So four run at a time; ARGS="-n 0 -x" for one after the other.
test: $(VENV)/.dev  ## all tests; STRICT=1 builds the interpreters first, and turns a missing part from a skip into a failure
	@scripts/system-packages $(if $(STRICT),--strict) boinc-client faketime chromium mariadb-server nginx-light php-cli wine64
	@scripts/system-packages openmpi-bin libpython$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')-testsuite
	@$(if $(STRICT),$(MAKE) --no-print-directory runtime && $(MAKE) --no-print-directory runtime TARGET=windows-x86_64)
	@$(BIN)/python -m pytest -m "not soak" -n 4 --dist loadfile $(if $(STRICT),--strict-parts) $(ARGS)

soak: $(VENV)/.dev  ## the full counts: kills, crowds, every interpreter built twice and aarch64's tested by qemu
	@scripts/system-packages boinc-client faketime mariadb-server
	@for target in linux-x86_64 linux-aarch64 windows-x86_64; do $(MAKE) --no-print-directory runtime TARGET=$$target || exit; done
	@$(BIN)/python -m pytest -m soak --timeout 3600 $(ARGS)

check: $(VENV)/.dev  ## format, lint, types, import contracts
	@$(BIN)/ruff format --check --quiet src tests examples bench scripts
	@$(BIN)/ruff check --quiet src tests examples bench scripts
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

bench: $(VENV)/.bench  ## speed, as ratios measured side by side; ARGS=local beside other libraries
	@scripts/system-packages boinc-client
	@$(BIN)/python -m bench $(ARGS)

runtime: $(VENV)/.runtime  ## the interpreter for volunteers' computers, once per recipe (some minutes); TARGET=linux-aarch64
	@scripts/system-packages dpkg-dev make perl tcl bubblewrap qemu-user-static
	@nice -n 10 $(BIN)/python -m pyboinc.package runtime $(if $(TARGET),--target $(TARGET))

docs: $(VENV)/.docs  ## the documentation as HTML in docs/_build
	@$(BIN)/sphinx-build -W -q -b html docs docs/_build/html && echo "docs/_build/html/index.html"

clean:  ## remove what the other targets made
	rm -rf $(VENV) docs/_build build dist

# An environment is as good as the pyproject.toml it was made from.
$(VENV)/.%: pyproject.toml scripts/environment
	@scripts/environment $(PYTHON) $(VENV) $*
	@touch $@
