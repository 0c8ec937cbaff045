"""Formulas as KaTeX HTML with MathML inside, made when the book is built: no page runs a script.

KaTeX lies beside this file, since no Python package has its script, styles and fonts: files of its
npm package as they are (`npm pack katex@0.16.47`). The version is that inside jupyterlab-myst, so
that the site and JupyterLab show the same formulas. mini-racer (V8) runs it: 22 MB to download,
where Node takes three times as much and a server.
"""

from functools import cache
from pathlib import Path

from docutils import nodes
from py_mini_racer import JSEvalException, MiniRacer
from sphinx.locale import _
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

from website import changes

logger = logging.getLogger(__name__)

KATEX = Path(__file__).parent / "katex-0.16.47"


@cache
def engine():
    context = MiniRacer()
    context.eval((KATEX / "katex.min.js").read_text(encoding="utf-8"))
    return context


@cache
def render(tex, display):
    """The HTML of a formula; JSEvalException if KaTeX cannot parse it."""
    return engine().call("katex.renderToString", tex, {"displayMode": display, "strict": True})


def fonts():
    """KaTeX's fonts: path, family, weight and style of each."""
    for path in sorted(KATEX.glob("fonts/*.woff")):
        family, variant = path.stem.split("-")
        weight = 700 if "Bold" in variant else 400
        yield path, family, weight, "italic" if "Italic" in variant else "normal"


def formula(translator, node, display):
    tex = node.astext()
    try:
        return render(tex, display)
    except JSEvalException as error:
        # Its first line; the others are the source of KaTeX.
        message = str(error).partition("\n")[0].removeprefix("<anonymous>:1: ParseError: ")
        logger.warning("%s", message, location=node, type="katex")
        return f"<code>{translator.encode(tex)}</code>"


# The last of the boxes of a formula in the text, and the end of its markup.
LAST = changes.expected(r'(<span class="base">(?:(?!<span class="base">).)*)(</span></span>)$')


def visit_math(translator, node):
    # A browser breaks a line behind a box, even before a full stop: not behind the last box.
    html = formula(translator, node, display=False)
    html = changes.change(LAST, r'<span class="katex-last">\1</span>\2', html)
    tag = translator.starttag(node, "span", "", CLASS="math notranslate nohighlight")
    translator.body.append(f"{tag}{html}</span>")
    raise nodes.SkipNode


def visit_displaymath(translator, node):
    translator.body.append(translator.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, _("Link to this equation"))
        translator.body.append("</span>")
    translator.body.append(formula(translator, node, display=True) + "</div>\n")
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("katex", (visit_math, None), (visit_displaymath, None))
