"""A Sphinx extension that makes the website self-contained and fast.

katex.py    formulas, rendered when the book is built
outputs.py  what a cell printed, in one piece
pages.py    the step after the build: what each page loads, and when
styles.py   its one style sheet
fonts.py    the fonts in it
changes.py  all changes of what others wrote, counted
"""

from pathlib import Path

from website import changes, katex, outputs, pages

# The theme's script does this too, but after the first paint: a flash, and all styles anew.
RESOLVE_THEME = """{
  const root = document.documentElement.dataset;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  if (root.theme === "auto") root.theme = dark ? "dark" : "light";
}"""

# The search page fetches the pages that it found, to quote them: a browser refuses that to a file.
NO_QUOTES_FROM_FILES = (
    'if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;'
)


def add_static_files(app, config):
    config.html_static_path.append(str(Path(__file__).parent / "static"))


def setup(app):
    for part in (changes, katex, outputs, pages):
        part.setup(app)
    app.connect("config-inited", add_static_files)
    app.add_js_file(None, body=RESOLVE_THEME)
    app.add_js_file(None, body=NO_QUOTES_FROM_FILES)
    app.add_js_file("formulas.js")
    # Counted in one process.
    return {"parallel_read_safe": False, "parallel_write_safe": False}
