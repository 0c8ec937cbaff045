"""A Sphinx extension that makes the website self-contained and fast.

formulas.py formulas, made when the book is built, and their font
outputs.py  what a cell printed, in one piece
figures.py  still figures in the colours of the page
pages.py    the step after the build: what each page loads, and when
styles.py   its one style sheet
fonts.py    the fonts in it
changes.py  all changes of what others wrote, counted
"""

from pathlib import Path

from website import changes, figures, formulas, outputs, pages, search


def setup(app):
    for part in (changes, formulas, outputs, figures, pages, search):
        part.setup(app)
    app.add_js_file(None, body=Path(__file__).with_name("early.js").read_text(encoding="utf-8"))
    app.add_js_file("tabstops.js")
