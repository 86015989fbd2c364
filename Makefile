# The words of daily work. `make run` and `make test` need make and a Python from 3.11 up, and no step before them:
# they make .venv, install into it, and install again only after pyproject.toml or setup.cfg has changed.

VENV ?= .venv
PYTHON ?=
ARGS ?=

python := $(VENV)/bin/python
install := $(python) -m pip --disable-pip-version-check install -qq
# One stamp a layer, each on top of the one before, so that under `make -j` no two pips write into one environment.
created := $(VENV)/.created
ready_to_run := $(VENV)/.ready-to-run
ready_to_work := $(VENV)/.ready-to-work

.DELETE_ON_ERROR:
.PHONY: help run test check format docs bench soak test-all clean

help:
	@echo 'make run       run the reference application       make run ARGS="--samples all --rate max --chaos"'
	@echo 'make test      run the suite                       make test ARGS="-k mailbox -x"'
	@echo 'make check     ruff, its formatter, mypy strict'
	@echo 'make format    let ruff repair and format'
	@echo 'make bench     measure ours beside the peers       make bench ARGS="--json FILE"'
	@echo 'make soak      the long runs of the suite'
	@echo 'make test-all  the suite on every Python from 3.11 up that this machine has'
	@echo 'make clean     remove the environments and every cache'
	@echo 'Another interpreter: make clean run PYTHON=/path/to/python3'

run: $(ready_to_run)
	@$(python) -m app $(ARGS)

test: $(ready_to_work)
	$(python) -m pytest --numprocesses auto --dist worksteal $(ARGS)

soak: $(ready_to_work)
	$(python) -m pytest -m soak $(ARGS)

check: $(ready_to_work)
	$(python) -m ruff check
	$(python) -m ruff format --check
	$(python) -m mypy

format: $(ready_to_work)
	$(python) -m ruff check --fix
	$(python) -m ruff format

# The generated pages of docs/; the suite holds them to what they are generated from.
docs: $(ready_to_work)
	$(python) -m app.event_table > docs/events.md

bench: $(ready_to_work)
	@$(python) -m benchmarks $(ARGS)

# Each version gets an environment of its own; all of them are tried, and the failed ones are named at the end.
test-all:
	@found=$$(.ci/interpreters | sort -t . -k 2n | tr ' ' :); test -n "$$found" || exit 1; failed=; \
	for each in $$found; do \
		echo "== Python $${each%%:*} ($${each#*:})"; \
		$(MAKE) --no-print-directory test VENV=.venvs/$${each%%:*} PYTHON=$${each#*:} || failed="$$failed $${each%%:*}"; \
	done; \
	test -z "$$failed" || { echo "failed on Python:$$failed" >&2; exit 1; }; \
	echo "passed on Python:" $$(for each in $$found; do echo $${each%%:*}; done)

# An environment is made anew if making it was interrupted. Its own pip may be older than dependency groups (25.1).
$(created):
	@found=$$(.ci/interpreters $(PYTHON)) || exit 1; \
	found=$$(echo "$$found" | sed -n '1s/^[^ ]* //p'); \
	echo "making $(VENV) with $$found"; \
	rm -rf $(VENV) && $$found -m venv $(VENV)
	@$(install) --upgrade 'pip>=25.1'
	@touch $@

$(ready_to_run): $(created) pyproject.toml setup.cfg
	@echo "installing beamstalk and what the application needs"
	@$(install) --editable '.[all]' --group app
	@touch $@

$(ready_to_work): $(ready_to_run)
	@echo "installing what the suite, the checks and the benchmarks need"
	@$(install) --group dev
	@touch $@

clean:
	rm -rf .venv .venvs .peers build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
