# The two commands of the README are `make book` and `make test`. `make help` lists all.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
BUILT := _build/.built
PACKAGE := $(shell find code/kl2dpo -name '*.py' -o -name '*.mplstyle')
WEBSITE := $(shell find code/book -type f -not -path '*/__pycache__/*')
TEXT := $(shell find chapters -type f -not -path '*/.ipynb_checkpoints/*')

.PHONY: help book pdf serve test binder-test coverage lint audit drift notebooks lab lighthouse lock clean

help:
	@echo "make book       build the website"
	@echo "make pdf        make a PDF of the website, and link it there (needs Chromium or Chrome)"
	@echo "make serve      show it on http://localhost:8000"
	@echo "make test       run every notebook and every test (those of the website in Chromium or Chrome)"
	@echo "make lab        open the notebooks in JupyterLab"
	@echo "make notebooks  execute all notebooks in place"
	@echo "make lint       check the style and the types of the code, and the style of the notebooks' cells"
	@echo "make coverage   run the tests of the package, and fail if they miss 2 % of its lines and branches"
	@echo "make binder-test  build Binder's environment, and run every notebook in it as Binder does"
	@echo "make audit      ask a database of advisories about every version in requirements.lock"
	@echo "make drift      run the tests and build the book with the newest version of everything"
	@echo "make lighthouse  measure every page of the website as a phone sees it (Chromium and Node)"
	@echo "make lock       resolve both requirements.txt into requirements.lock"
	@echo "make clean      remove the environment, the website and the caches"

book: $(BUILT)
	@echo "The book is at $(CURDIR)/_build/html/index.html (make serve shows it on localhost)."

pdf: book
	$(BIN)/python code/book/tools/make_pdf.py

serve: book
	$(BIN)/python -m http.server --bind localhost --directory _build/html 8000

# The tests of the website open the pages of `make book` in a browser.
test: book
	$(BIN)/python -m pytest

binder-test: $(INSTALLED)
	BINDER_TEST=1 $(BIN)/python -m pytest -n 0 -rsP code/tests/test_binder.py

coverage: $(INSTALLED)
	$(BIN)/coverage run --rcfile=code/pyproject.toml --data-file=_build/.coverage \
	  -m pytest -o addopts='--doctest-modules --strict-markers' code/kl2dpo $$(grep -lE '^(from|import) kl2dpo' code/tests/test_*.py)
	$(BIN)/coverage report --rcfile=code/pyproject.toml --data-file=_build/.coverage

lint: $(INSTALLED)
	$(BIN)/ruff check --quiet --config code/pyproject.toml .
	$(BIN)/ruff format --quiet --check --config code/pyproject.toml code
	$(BIN)/ruff format --quiet --check --config code/pyproject.toml --line-length 79 chapters
	$(BIN)/mypy --config-file code/pyproject.toml --cache-dir _build/.mypy_cache code/kl2dpo

# Every line of the lock is a version: nothing is resolved, and nothing of the course is installed.
audit:
	@$(PYTHON) -m venv --clear _build/audit && _build/audit/bin/python -m pip install --quiet pip-audit
	_build/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement requirements.lock

# Jupyter Book 2 is another program. The tests of the lock are left out: here it is not used. The website
# that is tested is the one just built; the next `make book` builds it anew.
drift:
	@$(PYTHON) -m venv --clear _build/drift
	cat requirements.txt code/requirements.txt | grep -v '^-[cr]' \
	  | sed -e 's/==.*//' -e 's/^jupyter-book$$/&<2/' > _build/drift/requirements.txt
	_build/drift/bin/python -m pip install --quiet -r _build/drift/requirements.txt
	@echo "Not as in the lock:"; sed 's/ ;.*//' requirements.lock > _build/drift/lock; \
	  _build/drift/bin/python -m pip list --format=freeze | tr _A-Z -a-z | grep -vxF -f _build/drift/lock || true
	rm -rf _build/html _build/.jupyter_cache _build/.package
	failed=; \
	  _build/drift/bin/jupyter-book build --quiet --all -n -W --keep-going . || failed=book; \
	  _build/drift/bin/python -m pytest --ignore code/tests/test_lock.py || failed="$$failed tests"; \
	  test -z "$$failed" || { echo "With the newest of everything, this fails: $$failed" >&2; exit 1; }

notebooks: $(INSTALLED)
	$(BIN)/python code/book/tools/run_notebooks.py

lab: $(INSTALLED)
	PATH="$(CURDIR)/$(BIN):$$PATH" ./postBuild
	$(BIN)/jupyter lab chapters/home.ipynb

$(INSTALLED): requirements.txt code/requirements.txt requirements.lock code/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; choose one by: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv || \
	  { echo "No environment was made. On Debian and Ubuntu, install the package python3-venv." >&2; exit 1; }
	@echo "Installing into .venv (a minute or two, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r code/requirements.txt || \
	  { echo "The installation failed: see the message above." >&2; exit 1; }
	@touch $@

# The cache of executed notebooks sees a change of their cells only, so a change of the package empties it.
_build/.package: $(PACKAGE) $(INSTALLED)
	@rm -rf _build/.jupyter_cache
	@mkdir -p _build && touch $@

# --all: a build in which no page has changed does not copy changed styles. Nothing of an older website stays.
$(BUILT): $(INSTALLED) _build/.package _config.yml _toc.yml $(WEBSITE) $(TEXT)
	@rm -rf _build/html
	@$(BIN)/jupyter-book build --quiet --all -n -W --keep-going . || \
	  { echo "The book was not built: see the warnings above." >&2; exit 1; }
	@touch $@

lighthouse: book
	cd _build && npx --yes @lhci/cli@0.15.1 autorun --config=../code/book/tools/lighthouse.cjs

lock:
	@$(PYTHON) -m venv --clear _build/uv && _build/uv/bin/python -m pip install --quiet uv
	cat requirements.txt code/requirements.txt | grep -v '^-[cr]' \
	  | _build/uv/bin/uv pip compile --quiet --universal --python-version 3.11 \
	  --no-emit-package kl2dpo --no-header --no-annotate --output-file requirements.lock -

clean:
	rm -rf .venv _build .pytest_cache .ruff_cache .hypothesis code/kl2dpo.egg-info
