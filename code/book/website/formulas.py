"""Formulas as MathML, made when the book is built: no page runs a script or loads a style for them.

math-core makes it from LaTeX. The font is STIX Two Math, the letters of which have the height and
the weight of a text serif; it is in the wheel of ziamath, of which nothing else is used here.
"""

import html
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from unicodedata import normalize
from xml.etree import ElementTree

from docutils import nodes
from fontTools.ttLib import TTFont
from math_core import LatexError, LatexToMathML
from sphinx.locale import _
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

from website import changes, fonts

logger = logging.getLogger(__name__)

FONT = Path(find_spec("ziamath").origin).parent / "fonts" / "STIXTwoMath-Regular.ttf"
CONVERTER = LatexToMathML(fancy_error=False)

# The pieces of the loss: math-core knows colours by name only; book.css says what a name looks like.
COLOURS = {"#2f6690": "blue", "#c8502f": "red", "#3a7d44": "green"}

# What math-core writes, and what the browsers need: Chromium lets no sign grow that has an exponent;
# a function has a space before its argument, whatever colour that has; behind an "&", plus and minus
# stand between two terms.
CHANGED = {
    r"<mo [^>]*minsize=[^>]*>[^<]*</mo>": r"<mrow>\g<0></mrow>",
    r'rspace="0">(?=\w+</mo><mrow style=)': 'rspace="0.1667em">',
    "(justify-items: start;[^>]*><mo)(?=>[+−])": r'\1 form="infix"',
}
for PATTERN in CHANGED:
    changes.expected(PATTERN)

# A browser shows a letter that stands alone as the one of these which means it.
ITALIC = {ord("ℎ"), *range(0x1D434, 0x1D468), *range(0x1D6E2, 0x1D71C)}

# As in TeX: indices at one height, whatever letter is before them, and low fractions in a line.
TEX = {
    "SubscriptBaselineDropMin": 0,
    "SuperscriptBaselineDropMax": 386,
    "FractionNumeratorShiftUp": 430,
    "FractionDenominatorShiftDown": 380,
}

# Relations and binary operators: a line may break behind them, as in TeX.
BREAKS = set("=≠<>≤≥≈∼∝≻∈∣→←+−±⋅")


@cache
def render(tex, display):
    """The MathML of a formula; LatexError if math-core cannot parse it."""
    if re.search(r"\\\\\s*\[", tex):
        raise LatexError(r"math-core does not know \\[...]")
    tex = re.sub("#[0-9a-f]{6}", lambda colour: COLOURS.get(colour[0], colour[0]), tex)
    markup = CONVERTER.convert_with_local_state(tex, displaystyle=display)
    for pattern, new in CHANGED.items():
        markup = changes.change(pattern, new, markup)
    # It also asks for a form of a script letter which the font does not have.
    markup = markup.replace("&ApplyFunction;", "\u2061").replace("\ufe00", "")
    math = ElementTree.fromstring(markup)
    return ElementTree.tostring(math if display else boxes(math), encoding="unicode")


def boxes(math):
    """The formula as a row of boxes, between which a line may break."""
    found = [ElementTree.Element("mrow")]
    for part in math:
        found[-1].append(part)
        # A sign without space before it is no operator between two terms.
        if part.tag == "mo" and part.text in BREAKS and part.get("lspace") != "0":
            part.set("form", "infix")
            found.append(ElementTree.Element("mrow"))
    row = ElementTree.Element("math")
    row.extend(found[:-1])
    # A browser breaks a line behind a box, even before a full stop: not behind the last one.
    ElementTree.SubElement(row, "mrow", {"class": "last"}).append(found[-1])
    return row


def formula(translator, node, display):
    tex = node.astext()
    try:
        return render(tex, display)
    except LatexError as error:
        logger.warning("%s in %s", error, tex, location=node, type="formulas")
        return f"<code>{translator.encode(tex)}</code>"


def visit_math(translator, node):
    tag = translator.starttag(node, "span", "", CLASS="math notranslate nohighlight")
    translator.body.append(f"{tag}{formula(translator, node, display=False)}</span>")
    raise nodes.SkipNode


def visit_displaymath(translator, node):
    translator.body.append(translator.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, _("Link to this equation"))
        translator.body.append("</span>")
    markup = formula(translator, node, display=True)
    translator.body.append(f'<div class="formula">{markup}</div></div>\n')
    raise nodes.SkipNode


def tuned(font):
    """The font, with what the browsers do not do by themselves."""
    glyphs, widths, table = font["glyf"], font["hmtx"], font["MATH"].table
    # Primes are exponents, for which the font has signs that Chromium does not ask for.
    font.getBestCmap().update({ord("′"): "minute.ssty", ord("″"): "second.ssty"})
    for name, value in TEX.items():
        getattr(table.MathConstants, name).Value = value
    # Chromium gives a sign that grows the width of its widest form.
    signs = table.MathVariants
    forms = dict(zip(signs.VertGlyphCoverage.glyphs, signs.VertGlyphConstruction, strict=True))
    for sign in map(font.getBestCmap().get, map(ord, "()[]{}")):
        del forms[sign].MathGlyphVariantRecord[4:]
        *_, middle, large = [form.VariantGlyph for form in forms[sign].MathGlyphVariantRecord]
        for form in large, *(part.glyph for part in forms[sign].GlyphAssembly.PartRecords):
            widths[form] = widths[middle][0], widths[form][1]
    # And the smallest root is too high for a letter.
    forms["uni221A"].GlyphAssembly = None
    for form in forms["uni221A"].MathGlyphVariantRecord:
        glyph = glyphs[form.VariantGlyph]
        glyph.coordinates.scale((640 / widths[form.VariantGlyph][0], 0.82))
        glyph.coordinates.toInt()
        glyph.recalcBounds(glyphs)
        form.AdvanceMeasurement = round(0.82 * form.AdvanceMeasurement)
        widths[form.VariantGlyph] = 640, glyph.xMin
    return font


def face(pages):
    """A @font-face rule with the characters of the formulas on the pages, letters in italics too."""
    markup = "".join(math for page in pages for math in re.findall("<math.*?</math>", page))
    # The sign of a root is a tag.
    characters = set(html.unescape(re.sub("<[^>]*>", "", markup.replace("<msqrt>", "√"))))
    with TTFont(FONT, recalcTimestamp=False) as font:
        characters.update(c for c in map(chr, ITALIC) if normalize("NFKC", c) in characters)
        return fonts.face(tuned(font), characters, "STIX Two Math", 400, "normal")


def setup(app):
    app.add_html_math_renderer("formulas", (visit_math, None), (visit_displaymath, None))
