"""A Sphinx extension: what a notebook has for other programs, and how the website shows it.

JupyterLab, GitHub and others know no directive, so a notebook says in plain Markdown where an
exercise and a solution begin (JupyterLab folds the section of a solution), and has the caption of a
figure as the paragraph below it. On the website an exercise has its box, and a figure its caption.

The copy of a notebook that a page offers says how to get the package.
"""

from pathlib import Path

import nbformat
from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx_exercise.nodes import exercise_enumerable_node, solution_node, solution_start_node
from website.changes import expected, met

BOXED = expected("a section of an exercise or a solution")
BOXES = exercise_enumerable_node | solution_start_node
CAPTIONED = expected("a figure with its caption below")


class FitToWebsite(SphinxTransform):
    """Take away the headings that stand for a box, and move each caption into its figure."""

    default_priority = 0  # before the boxes of solutions are made

    def apply(self):
        for section in [*self.document.findall(nodes.section)]:
            # A message says that a section of this name is there already.
            parts = [part for part in section[1:] if not isinstance(part, nodes.system_message)]
            if parts and isinstance(parts[0], BOXES):
                section.parent.replace(section, parts)
                met[BOXED] += 1
        for figure in self.document.findall(nodes.figure):
            if not [*figure.findall(nodes.caption)]:
                cell = figure
                while not isinstance(cell.parent, nodes.section):
                    cell = cell.parent
                below = cell.next_node(nodes.paragraph, descend=False, siblings=True)
                below.parent.remove(below)
                # The first word, in bold, says that it is one.
                below.remove(next(below.findall(nodes.strong)))
                figure += nodes.caption("", "", *below)
                met[CAPTIONED] += 1


def open_fold(translator, solution):
    """A solution needs no script to fold, and a browser opens it where a link or its search leads."""
    translator.body.append(translator.starttag(solution, "details", CLASS="admonition"))


def close_fold(translator, solution):
    translator.body.append("</details>\n")


def installation(options):
    """The cell that gets the package, from the repository if that is known."""
    if not (url := options["repository_url"]):
        text = (
            "Needs the package of the course: in the folder of its `README.md`, run\n\n"
            "```sh\npython -m pip install -r .binder/requirements.txt\n```"
        )
        return nbformat.v4.new_markdown_cell(text, id="installation")
    place = f"git+{url}@{options['repository_branch']}#subdirectory=code"
    text = f'# The package of the course, and what this notebook needs besides.\n%pip install --quiet "{place}" matplotlib sympy'
    return nbformat.v4.new_code_cell(text, id="installation")


def complete_copies(app, exception):
    """Put the installation below the title of each notebook that can be downloaded."""
    if exception or app.builder.format != "html":
        return
    for path in Path(app.outdir, "_sources").rglob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        if notebook.cells[1].id != "installation":
            notebook.cells.insert(1, installation(app.config.html_theme_options))
            nbformat.write(notebook, path)


def setup(app):
    app.add_transform(FitToWebsite)
    app.add_node(solution_node, override=True, html=(open_fold, close_fold))
    app.connect("build-finished", complete_copies)
