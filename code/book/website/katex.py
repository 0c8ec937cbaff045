"""Formulas as KaTeX HTML with MathML inside, made when the book is built: no page runs a script.

KaTeX itself (script, styles, fonts) is the one inside jupyterlab-myst, which the notebooks need
anyway: the site and JupyterLab show the same formulas, and its parts are of one version.
mini-racer (V8) runs it: 22 MB to download, where Node takes three times as much and a server.
"""

import re
import sysconfig
from functools import cache
from pathlib import Path

from docutils import nodes
from fontTools.ttLib import TTFont
from py_mini_racer import MiniRacer
from sphinx.locale import _
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)

LABEXTENSION = Path(
    sysconfig.get_path("data"), "share/jupyter/labextensions/jupyterlab-myst/static"
)

# The script is a webpack module: this is what it needs to start outside of JupyterLab.
LOAD = """
const [[[id], modules]] = self.webpackChunkjupyterlab_myst;
const exports = {};
modules[id]({exports}, exports, {
  r() {},
  d(target, getters) {
    for (const key in getters) Object.defineProperty(target, key, {get: getters[key]});
  },
});
function render(tex, displayMode) {
  try {
    return {html: exports.renderToString(tex, {displayMode, strict: true, throwOnError: true})};
  } catch (error) {
    return {error: error.message};
  }
}
"""


def chunk(pattern):
    """The text of the one script of jupyterlab-myst in which the pattern is found."""
    texts = [path.read_text(encoding="utf-8") for path in LABEXTENSION.glob("*.js")]
    found = [text for text in texts if re.search(pattern, text)]
    if len(found) != 1:
        raise RuntimeError(f"{pattern!r} is in {len(found)} scripts of jupyterlab-myst, not in one")
    return found[0]


@cache
def engine():
    version = re.search(r'\.katex-version::after\s*\{\s*content: "([\d.]+)"', styles())[1]
    context = MiniRacer()
    context.eval("var self = globalThis")
    context.eval(chunk(rf'\brenderToString:.*="{re.escape(version)}"'))
    context.eval(LOAD)
    return context


@cache
def render(tex, display):
    """{"html": ...} or {"error": ...} for a formula."""
    return dict(engine().call("render", tex, display))


def styles():
    """KaTeX's style sheet without its fonts."""
    literals = re.findall(r"`((?:[^`\\]|\\.)*)`", chunk(r"`[^`]*\.katex \.katex-version"))
    css = next(text for text in literals if ".katex-version" in text)
    css = re.sub(r"\\(.)", lambda escape: {"n": "\n"}.get(escape[1], escape[1]), css)
    # Their addresses are holes in the literal: `fonts` finds them by their names.
    css = re.sub(r"\$\{[^}]*\}", "", css)
    return re.sub(r"@font-face\s*\{[^}]*\}", "", css)


def fonts():
    """KaTeX's fonts: path, family, weight and style of each."""
    for path in sorted(LABEXTENSION.glob("*.ttf")):
        with TTFont(path, lazy=True) as font:
            family, variant = (font["name"].getDebugName(number) for number in (1, 2))
        if family.startswith("KaTeX_"):
            weight = "bold" if "Bold" in variant else "normal"
            yield path, family, weight, "italic" if "Italic" in variant else "normal"


def formula(translator, node, display):
    tex = node.astext()
    result = render(tex, display)
    if "error" in result:
        logger.warning("%s", result["error"], location=node, type="katex")
        return f"<code>{translator.encode(tex)}</code>"
    return result["html"]


# The last of the boxes of a formula in the text, and the end of its markup.
LAST = re.compile(r'(<span class="base">(?:(?!<span class="base">).)*)(</span></span>)$', re.DOTALL)


def visit_math(translator, node):
    # A browser breaks a line behind a box, even before a full stop: not behind the last box.
    html = LAST.sub(
        r'<span class="katex-last">\1</span>\2', formula(translator, node, display=False)
    )
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
