"""The parts that make the website (code/book), each by itself."""

import base64
import io
import re
from collections import Counter
from types import SimpleNamespace
from xml.etree import ElementTree

import nbformat
import pytest
import reading
import tinycss2
from docutils import nodes
from fontTools.ttLib import TTFont
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from website import changes, fonts, formulas, outputs, search, styles


def purged(css, *known):
    rules = tinycss2.parse_stylesheet(css, **styles.RULES_ONLY)
    return "".join(styles.purge(rules, set(known)))


@pytest.mark.parametrize(
    "tex",
    [r"\nonsense", r"\frac{1}", "a & b", "x^2^3", r"\textcolor{#123456}{x}"]
    + [r"\begin{aligned} a \\[6pt] b \end{aligned}"],
)
def test_no_markup_for_what_cannot_be_shown(tex):
    with pytest.raises(formulas.LatexError):
        formulas.render(tex, True)


@pytest.mark.parametrize(
    "tex, markup",
    [
        (r"\bigl(x\bigr)^2", '<msup><mrow><mo minsize="1.2em" maxsize="1.2em">)</mo></mrow>'),
        (r"\textcolor{#c8502f}{x}", '<mrow style="color:#FF0000;"><mi>x</mi></mrow>'),
        (
            r"\begin{aligned} a \\ & - \ln \textcolor{#2f6690}{x} \end{aligned}",
            '<mo form="infix">−</mo><mo lspace="0" rspace="0.1667em">ln</mo><mrow style=',
        ),
    ],
)
def test_what_browsers_do_not_do_by_themselves(tex, markup):
    assert markup in formulas.render(tex, True)


@pytest.mark.parametrize(
    "tex, texts",
    [
        ("a = b + c", ["a=", "b+", "c"]),
        ("-a", ["−a"]),
        (r"f(x) \le \frac{a + b}{2}", ["f(x)≤", "a+b2"]),
        (r"\pi(y \mid x)", ["π(y∣", "x)"]),
    ],
)
def test_a_line_breaks_behind_operators_and_not_behind_the_formula(tex, texts):
    row = ElementTree.fromstring(formulas.render(tex, False))
    assert ["".join(box.itertext()) for box in row] == texts
    assert [box.get("class") for box in row] == [None] * (len(texts) - 1) + ["last"]
    assert [box.tag for box in row[-1]] == ["mrow"]


def cut(rule):
    return TTFont(io.BytesIO(base64.b64decode(rule.split("base64,")[1].split(")")[0])))


def test_font_is_cut_to_the_characters():
    with TTFont(formulas.FONT) as font:
        rule = fonts.face(font, "xyσ蛋", "F", 400, "italic")
    assert rule.startswith('@font-face{font-family:"F";font-weight:400;font-style:italic;src:url(')
    with cut(rule) as font:
        assert set(font.getBestCmap()) == {ord(character) for character in "xyσ"}
    assert len(rule) < formulas.FONT.stat().st_size / 100
    with TTFont(formulas.FONT) as font:
        assert fonts.face(font, "蛋", "F", 400, "italic") == ""


def test_font_of_the_formulas():
    tex = r"y' = \sqrt{h}\bigl(\mathrm{E}\bigr)"
    with cut(formulas.face(["text", f"<p>{formulas.render(tex, True)}</p>"])) as font:
        # An exponent of its own, and letters that stand alone in italics.
        assert set(map(chr, font.getBestCmap())) == set("y′=√h()E") | set("𝑦ℎ𝐸")
        glyphs, widths, names = font["glyf"], font["hmtx"], font.getBestCmap()
        assert glyphs[names[ord("′")]].yMax < 600, "the prime of a line of its own is higher"
        table = font["MATH"].table.MathVariants
        forms = dict(zip(table.VertGlyphCoverage.glyphs, table.VertGlyphConstruction, strict=True))
        for sign, width in ("√", 640), ("(", 404):
            forms_of_sign = forms[names[ord(sign)]].MathGlyphVariantRecord
            assert len(forms_of_sign) == 4
            assert max(widths[form.VariantGlyph][0] for form in forms_of_sign) == width


def test_typeface_of_the_text_is_a_file_and_what_stands_in_has_its_widths(tmp_path):
    own, stand_in = fonts.text_faces('p{font-family:"Book Mono"}', {"a"}, tmp_path / "fonts")
    assert "url(fonts/mono.woff2)" in own and "font-display:optional" in own
    # Six tenths of its size, as Courier.
    assert 'local("Liberation Mono")' in stand_in and "size-adjust:100.0%" in stand_in
    assert (
        "OPEN FONT LICENSE" in next((tmp_path / "fonts").glob("*.txt")).read_text("utf-8").upper()
    )
    with TTFont(tmp_path / "fonts" / "mono.woff2") as font:
        assert set(font.getBestCmap()) == {ord(letter) for letter in fonts.SAMPLE}
        assert "fvar" not in font
        # A font that was cut may not have the name of the whole one; it has its owner and licence.
        names = {entry.nameID for entry in font["name"].names}
        assert {0, 13} <= names and names.isdisjoint({1, 3, 4, 6, 16})


@pytest.mark.parametrize(
    ("css", "kept"),
    [
        (".a .b{x:1}", ".a .b{x:1}\n"),
        (".a .gone{x:1}", ""),
        ("#gone > .a{x:1}", ""),
        (".gone, .a, p{x:1}", ".a,p{x:1}\n"),
        (".a:not(.gone){x:1}", ".a:not(.gone){x:1}\n"),
        (".a:is(.b,.gone){x:1}", ".a:is(.b,.gone){x:1}\n"),
        ('[data-x=".gone"]{x:1}', '[data-x=".gone"]{x:1}\n'),
        (r".a\:b{x:1}", ""),
        (".bs-tooltip-auto.a{x:1}", ""),
        ("/* c */ .a  { /* c */ x:  1 }", ".a{x: 1}\n"),
        ("@media print{.gone{x:1}}", ""),
        ("@media print{.gone{x:1} .b{x:1}}", "@media print{.b{x:1}\n}\n"),
        ("@keyframes k{to{x:1}}", "@keyframes k{to{x:1}}\n"),
        ("@font-face{font-family:F}", ""),
    ],
)
def test_purge_keeps_what_can_match(css, kept):
    assert purged(css, "a", "b") == kept


def test_purge_does_not_pass_over_what_it_cannot_read():
    with pytest.raises(ValueError, match="line 1 of a style sheet"):
        purged(".a{x:1} }", "a")


def test_words_of_pages_and_scripts():
    pages = ["<p class=\"a b-c\" id='d'>", '<p class="x\ny">gone</p>']
    known = styles.words(pages, ['e.classList.add("show");'])
    assert {"a", "b-c", "d", "x", "y", "show", "bs-tooltip-auto"} <= known
    assert "gone" not in known


def test_bundle_follows_imports_and_keeps_addresses(tmp_path):
    (tmp_path / "styles").mkdir()
    (tmp_path / "basic.css").write_text("p{x:url('file.png')}", encoding="utf-8")
    rules = '@import "../basic.css"; .a{b:url(pic.png);c:url("data:image/png,x")}'
    (tmp_path / "styles" / "theme.css").write_text(rules, encoding="utf-8")
    css = styles.bundle([tmp_path / "styles" / "theme.css"], {"a"}, [], tmp_path)
    kept = 'p{x:url("./file.png")}\n.a{b:url(styles/pic.png);c:url("data:image/png,x")}\n'
    assert css.endswith(kept)
    assert "@font-face" not in css


@pytest.mark.parametrize(
    "pieces, text", [(["0.", "265\n"], "0.265\n"), (["a\nb", "\nc\n"], "a\nb\nc\n")]
)
def test_pieces_of_an_output_are_put_together_as_they_are(pieces, text):
    printed = [nbformat.v4.new_output("stream", name="stdout", text=piece) for piece in pieces]
    result = nbformat.v4.new_output("execute_result", {"text/plain": "1"})
    assert outputs.merge([*printed, result]) == [printed[0] | {"text": text}, result]
    assert printed[0].text == pieces[0], "the pieces themselves are not touched"
    with pytest.raises(AssertionError):  # as MyST-NB does it
        assert outputs.coalesce_streams(printed)[0].text == text


def build(folder, text, extension, **values):
    """What a build of one page warns of, and the page."""
    (folder / "index.rst").write_text(text, encoding="utf-8")
    warnings, out = io.StringIO(), folder / "out"
    config = {"extensions": [extension], "html_theme": "basic", "smartquotes": False} | values
    Sphinx(folder, None, out, out, "html", config, status=None, warning=warnings).build()
    return warnings.getvalue(), (out / "index.html").read_text(encoding="utf-8")


def test_a_change_of_what_is_no_longer_there_fails_the_build(tmp_path, monkeypatch):
    monkeypatch.setattr(changes, "met", Counter())
    changes.expected("a button of the theme")
    with pytest.raises(ExtensionError, match="a button of the theme"):
        build(tmp_path, "T\n=\n\nText.\n", "website.changes")


def test_a_formula_that_cannot_be_shown_is_a_warning_with_its_place(tmp_path):
    text = "T\n=\n\nText.\n\nHere :math:`\\nonsense < 1`.\n"
    warned, page = build(tmp_path, text, "website.formulas")
    assert r'index.rst:6: WARNING: 0: Unknown command "\nonsense". in \nonsense < 1' in warned
    assert r"<code>\nonsense &lt; 1</code>" in page and "<math" not in page


def test_a_mark_and_a_section_that_do_not_exist_are_warnings(tmp_path):
    text = ':course: {"hour": ["no-part"], "no-mark": true}\n\nT\n=\n\nText.\n'
    warned, page = build(tmp_path, text, "reading", reading_marks={"hour": "on the way"})
    found = re.findall(r"index\.rst: WARNING: neither .*(no-\w+)", warned)
    assert found == ["no-part", "no-mark"]
    assert "chapter-facts" not in page


def test_a_way_has_the_order_of_the_book_or_the_numbers_of_its_pages():
    given = {"a": {"hour": ["x", "y"], "models": 2}, "b": {"models": 1}, "c": {"hour": True}}
    env = SimpleNamespace(
        config=SimpleNamespace(root_doc="home"),
        toctree_includes={"home": [*given]},
        toc_secnumbers={},
        metadata={page: {"course": course} for page, course in given.items()},
    )
    assert reading.pages_of(env, "hour") == [("a", "#x"), ("c", "")]
    assert reading.pages_of(env, "models") == [("b", ""), ("a", "")]


def test_other_names_for_what_does_not_exist_are_a_warning(tmp_path):
    text = ':search: {"no-part": ["a name"]}\n\nT\n=\n\nText.\n'
    warned, _ = build(tmp_path, text, "website.search")
    assert "index.rst: WARNING: nothing to search for: no-part" in warned


@pytest.mark.parametrize(
    "tex, said",
    [
        (r"\pi_{\mathrm{ref}} e^{r/\beta} / Z", "π_refe^(r/β)/Z"),
        (r"\frac{1}{2\tau}", "1/2τ"),
        (r"\ln \frac{\pi(y_w)}{Z}", "ln(π(y_w))/Z"),
    ],
)
def test_a_formula_in_one_line_of_text(tex, said):
    assert search.text(nodes.math("", tex)) == said


def test_words_and_visible_code_take_time():
    words = nodes.paragraph("", "A word, " * 100)
    code = nodes.literal_block("", "def f():\n\n    # A comment.\n    return 1\n" * 15)
    section = nodes.section("", words, code)
    assert reading.minutes(section) == 0.5 + 2
    section += [kind("", "word") for kind in (nodes.math, nodes.math_block, nodes.comment)]
    for unread in ("exercise", "solution", "cell_output", "tag_hide-input", "tag_hide-cell"):
        section += nodes.container("", words.deepcopy(), code.deepcopy(), classes=[unread])
    assert reading.minutes(section) == 0.5 + 2
