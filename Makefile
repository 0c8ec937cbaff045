# The two commands of the README are `make book` and `make test`. `make help` lists all.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
BUILT := _build/.built
PACKAGE := $(shell find code/kl2dpo -name '*.py' -o -name '*.mplstyle')
SITE := $(shell find code/book -name '*.py' -o -name '*.html' -o -name '*.png')
TEXT := $(shell find chapters -type f -not -path '*/.ipynb_checkpoints/*')

.PHONY: help book pdf serve test notebooks lab lock clean

help:
	@echo "make book       build the website"
	@echo "make pdf        make a PDF of the website, and link it there (needs Chromium or Chrome)"
	@echo "make serve      show it on http://localhost:8000"
	@echo "make test       run every notebook and every test"
	@echo "make lab        open the notebooks in JupyterLab"
	@echo "make notebooks  execute all notebooks in place"
	@echo "make lock       resolve requirements.txt into requirements.lock"
	@echo "make clean      remove the environment, the website and the caches"

book: $(BUILT)
	@echo "The book is at $(CURDIR)/_build/html/index.html (make serve shows it on localhost)."

pdf: book
	$(BIN)/python code/book/make_pdf.py

serve: book
	$(BIN)/python -m http.server --bind localhost --directory _build/html 8000

test: $(INSTALLED)
	$(BIN)/python -m pytest

notebooks: $(INSTALLED)
	$(BIN)/python code/book/run_notebooks.py

lab: $(INSTALLED)
	PATH="$(CURDIR)/$(BIN):$$PATH" ./postBuild
	$(BIN)/jupyter lab chapters/home.ipynb

$(INSTALLED): requirements.txt requirements.lock code/pyproject.toml
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
	@rm -rf _build/.jupyter_cache
	@mkdir -p _build && touch $@

# --all: a build in which no page has changed does not copy changed styles. A PDF of older pages goes.
$(BUILT): $(INSTALLED) _build/.package _config.yml _toc.yml $(TEXT) $(SITE)
	@rm -f _build/html/*.pdf
	@$(BIN)/jupyter-book build --quiet --all -n -W --keep-going . || \
	  { echo "The book was not built: see the warnings above." >&2; exit 1; }
	@touch $@

lock:
	@$(PYTHON) -m venv --clear _build/uv && _build/uv/bin/python -m pip install --quiet uv
	grep -v '^-c' requirements.txt | _build/uv/bin/uv pip compile --quiet --universal --python-version 3.11 \
	  --no-emit-package kl2dpo --no-header --no-annotate --output-file requirements.lock -

clean:
	rm -rf .venv _build .pytest_cache .hypothesis code/kl2dpo.egg-info
