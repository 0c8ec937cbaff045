# The two commands of the README are `make book` and `make test`. `make help` lists all.

# Modules of another program (an HPC module, ROS) would shadow those of the course.
unexport PYTHONPATH PYTHONHOME

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
BUILT := _build/.built
REQUIRED := .binder/requirements.txt requirements.txt
PACKAGE := $(shell find code/kl2dpo -type f -not -path '*/__pycache__/*')
WEBSITE := $(shell find code/book -type f -not -path '*/__pycache__/*')
TEXT := $(shell find chapters -type f -not -path '*/.ipynb_checkpoints/*')

.PHONY: help book pdf serve test test-trl coverage lint audit drift notebooks lab lighthouse lock clean

help:
	@echo "To read and to run the course"
	@echo "  make book        build the website"
	@echo "  make serve       show it on http://localhost:8000"
	@echo "  make pdf         make a PDF of the website, and link it there (needs Chromium or Chrome)"
	@echo "  make test        run every notebook and every test (those of the website in Chromium or Chrome)"
	@echo "  make lab         open the notebooks in JupyterLab"
	@echo "  make clean       remove the environment, the website and the caches"
	@echo "To change it"
	@echo "  make notebooks   execute all notebooks in place"
	@echo "  make lint        check the style and the types of the code, and the style of the notebooks' cells"
	@echo "  make coverage    make test, which then fails if it misses 2 % of the package's lines and branches"
	@echo "  make test-trl    compare with the library TRL and PyTorch (gigabytes, in their own environment)"
	@echo "  make lighthouse  fail if a page scores below 97 as a phone sees it (Chromium and Node)"
	@echo "  make lock        take the newest versions into requirements.lock (UPGRADE= keeps those it has)"
	@echo "  make drift       run the tests and build the book with the newest version of everything"
	@echo "  make audit       ask a database of advisories about every version in the lock"

book: $(BUILT)
	@printf '%s\n' "The book is at $$PWD/_build/html/index.html (make serve shows it on localhost)."

pdf: book
	$(BIN)/python code/book/tools/make_pdf.py

serve: book
	$(BIN)/python -m http.server --bind localhost --directory _build/html 8000

# The tests of the website open the pages of `make book` in a browser.
test: book
	$(BIN)/python -m pytest

# The notebooks by themselves: nbval would measure in their kernels too, and hangs. Tests need no order, as cells do.
coverage: book
	$(BIN)/python -m pytest chapters
	COVERAGE_FILE=_build/.coverage $(BIN)/python -m pytest --dist worksteal --cov --cov-config=code/pyproject.toml code/kl2dpo code/tests

# Neither notebooks nor workers: that environment has pytest and what TRL needs.
test-trl: _build/trl/.installed
	_build/trl/bin/python -m pytest -o addopts=--strict-markers code/tests/test_trl.py code/tests/test_torch.py

_build/trl/.installed: code/examples/requirements.txt requirements.lock
	@$(PYTHON) -m venv --clear _build/trl
	_build/trl/bin/python -m pip install --quiet -r code/examples/requirements.txt
	@touch $@

lint: $(INSTALLED)
	$(BIN)/ruff check --quiet --config code/pyproject.toml .
	$(BIN)/ruff format --quiet --check --config code/pyproject.toml code
	$(BIN)/ruff format --quiet --check --config code/pyproject.toml --line-length 79 chapters
	$(BIN)/mypy --config-file code/pyproject.toml --cache-dir _build/.mypy_cache code/kl2dpo

# Every line there is a version with its hashes: nothing is resolved, and nothing of the course is installed.
audit:
	@$(PYTHON) -m venv --clear _build/audit && _build/audit/bin/python -m pip install --quiet pip-audit==2.10.1
	_build/audit/bin/pip-audit --strict --disable-pip --require-hashes --requirement .ci/requirements.txt

# The tests of the lock are left out: here it is not used. The website that is tested is the one just
# built; the next `make book` builds it anew.
drift:
	@$(PYTHON) -m venv --clear _build/drift
	grep -hv '^-' $(REQUIRED) > _build/drift/requirements.txt
	_build/drift/bin/python -m pip install --quiet -r _build/drift/requirements.txt -e ./code
	@echo "Not as in the lock:"; sed 's/ ;.*//' requirements.lock > _build/drift/lock; \
	  _build/drift/bin/python -m pip list --format=freeze | tr _A-Z -a-z | grep -vxF -f _build/drift/lock || true
	rm -rf _build/html _build/.jupyter_cache _build/.built
	failed=; \
	  _build/drift/bin/jupyter-book build --quiet --all -n -W --keep-going . || failed=book; \
	  _build/drift/bin/python -m pytest --ignore code/tests/test_lock.py || failed="$$failed tests"; \
	  test -z "$$failed" || { echo "With the newest of everything, this fails: $$failed" >&2; exit 1; }

notebooks: $(INSTALLED)
	$(BIN)/python code/book/tools/run_notebooks.py

lab: $(INSTALLED)
	PATH="$$PWD/$(BIN):$$PATH" ./.binder/postBuild
	$(BIN)/jupyter lab chapters/home.ipynb

$(INSTALLED): $(REQUIRED) requirements.lock code/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; choose one by: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv || \
	  { echo "No environment was made. On Debian and Ubuntu, install the package python3-venv." >&2; exit 1; }
	@echo "Installing into .venv (a minute or two, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt || \
	  { echo "The installation failed: see the message above." >&2; exit 1; }
	@touch $@

# The cache of executed notebooks sees a change of their cells only, so a change of the package empties it.
_build/.package: $(PACKAGE) $(INSTALLED)
	@rm -rf _build/.jupyter_cache _build/new/_build/.jupyter_cache
	@mkdir -p _build && touch $@

# A build that fails costs nobody the website that he had, and names what was wrong in its last lines.
# --all: a build in which no page has changed does not copy changed styles. Nothing of an older website stays.
$(BUILT): $(INSTALLED) _build/.package _config.yml _toc.yml $(WEBSITE) $(TEXT)
	@echo "Building the book (a minute or two, where nothing is built yet) ..."
	@rm -rf _build/new/_build/html
	@$(BIN)/jupyter-book build --quiet --all -n -W --keep-going --path-output _build/new . > _build/raw 2>&1 || { \
	  sed -e "s/$$(printf '\033')\[[0-9;]*m//g" -e '/over TCP without encryption/d' _build/raw > _build/log; \
	  cat _build/log; echo; echo "The book was not built:"; \
	  grep -E 'WARNING:|^Cell In\[|^[A-Za-z.]*(Error|Exception|Interrupt): .' _build/log; \
	  for notebook in chapters/*.ipynb chapters/*/*.ipynb; do \
	    $(BIN)/python -m json.tool "$$notebook" /dev/null 2> _build/raw || echo "$$notebook: $$(tail -n 1 _build/raw)"; \
	  done; exit 1; } >&2
	@rm -rf _build/html && mv _build/new/_build/html _build/html
	@touch $@

lighthouse: book
	cd _build && npx --yes @lhci/cli@0.15.1 autorun --config=../code/book/tools/lighthouse.cjs

# The inputs name no versions: the lock is their one place. CI and `make audit` have it with hashes.
UPGRADE ?= --upgrade
lock:
	@$(PYTHON) -m venv --clear _build/uv && _build/uv/bin/python -m pip install --quiet uv==0.13.9
	grep -hv '^-' $(REQUIRED) | _build/uv/bin/uv pip compile --quiet $(UPGRADE) --universal --python-version 3.11 \
	  --no-header --no-annotate --output-file requirements.lock -
	_build/uv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-deps \
	  --no-header --no-annotate --generate-hashes --output-file .ci/requirements.txt requirements.lock

clean:
	rm -rf .venv _build .pytest_cache .ruff_cache .hypothesis code/kl2dpo.egg-info
