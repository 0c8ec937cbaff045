"""The parts that make the website self-contained and fast (code/book/website)."""

import base64
import io

import nbformat
import pytest
import tinycss2
from bs4 import BeautifulSoup
from fontTools.ttLib import TTFont
from sphinx.application import Sphinx
from website import fonts, katex, outputs, pages, styles


def rules(css):
    return tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True)


def purged(css, *known):
    return "".join(styles.purge(rules(css), set(known)))


@pytest.mark.parametrize("display", [False, True])
def test_formula_has_html_and_mathml(display):
    html = katex.render(r"\frac{\partial L}{\partial s_i} = \sum_j w_{ij}", display)["html"]
    assert 'class="katex-html" aria-hidden="true"' in html
    assert "<math " in html and "<mfrac>" in html
    assert ('class="katex-display"' in html) == display


@pytest.mark.parametrize("tex", [r"\nonsense", r"\frac{1}", "a & b", "x^2^3", "“x”"])
def test_no_html_for_what_katex_cannot_parse(tex):
    assert set(katex.render(tex, True)) == {"error"}


def test_fonts_that_the_rules_ask_for():
    css = (
        ".katex{font:normal 1em KaTeX_Main,serif}.katex .mathnormal{font-family:KaTeX_Math;"
        "font-style:italic}.katex .textbf{font-weight:700}"
    )
    faces = "".join(styles.formula_fonts(css, "abc"))
    assert faces.count("@font-face") == 3
    assert '"KaTeX_Main";font-weight:700;font-style:normal' in faces
    assert '"KaTeX_Math";font-weight:400;font-style:italic' in faces


def test_font_is_cut_to_the_characters():
    path = next(path for path, *face in katex.fonts() if face == ["KaTeX_Math", 400, "italic"])
    source = fonts.cut(path, "xyσ–")
    with TTFont(io.BytesIO(base64.b64decode(source.split(",")[1]))) as font:
        assert set(font.getBestCmap()) == {ord(character) for character in "xyσ"}
    assert len(source) < path.stat().st_size / 4
    assert fonts.cut(path, "–") is None


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
    known = styles.words(
        ["<p class=\"a b-c\" id='d'>", '<p class="x\ny">gone</p>'], ['e.classList.add("show");']
    )
    assert {"a", "b-c", "d", "x", "y", "show", "bs-tooltip-auto"} <= known
    assert "gone" not in known


def test_bundle_follows_imports_and_keeps_addresses(tmp_path):
    (tmp_path / "styles").mkdir()
    (tmp_path / "basic.css").write_text("p{x:url('file.png')}", encoding="utf-8")
    (tmp_path / "styles" / "theme.css").write_text(
        '@import "../basic.css"; .a{b:url(pic.png);c:url("data:image/png,x")}', encoding="utf-8"
    )
    css = styles.bundle([tmp_path / "styles" / "theme.css"], {"a"}, "", tmp_path)
    assert css.endswith(
        'p{x:url("./file.png")}\n.a{b:url(styles/pic.png);c:url("data:image/png,x")}\n'
    )
    assert ".katex" not in css and "@font-face" not in css


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


PAGE = """<html lang="en" data-content_root="../">
<head>
<meta name="viewport" content="a" /><meta name="viewport" content="b" />
<link href="../_static/styles/theme.css?digest=1" rel="stylesheet" />
<link rel="stylesheet" type="text/css" href="../_static/book.css?v=2" />
<link rel="preload" as="script" href="../_static/scripts/bootstrap.js" />
<script defer src="../_static/scripts/fontawesome.js?digest=1"></script>
<script src="../_static/documentation_options.js?v=1"></script>
<script src="../_static/doctools.js"></script>
<script src="../_static/searchtools.js"></script>
<script src="../searchindex.js"></script>
<script src="../_static/copybutton.js"></script>
<script>let inline = 1;</script>
</head>
<body><img alt="one &gt; two" src="../_images/one.svg" /><img alt="" src="../_images/two.svg" />
<img src="../_static/logo.svg" /></body></html>"""


@pytest.fixture
def folder(tmp_path):
    for name in ("_static", "_images", "chapters"):
        (tmp_path / name).mkdir()
    (tmp_path / "_static" / "documentation_options.js").write_text("const O = 1;", encoding="utf-8")
    for name in ("one", "two"):
        (tmp_path / "_images" / f"{name}.svg").write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" width="75pt" height="30pt"/>', encoding="utf-8"
        )
    return tmp_path / "chapters"


def test_page_asks_for_little_and_waits_for_nothing(folder):
    page = pages.tuned(PAGE, folder)
    assert page.count('rel="stylesheet"') == page.count("viewport") == 1
    assert 'href="../_static/site.css?v="' in page
    for gone in ("preload", "fontawesome", "search", "copybutton"):
        assert gone not in page
    assert "<script>const O = 1;</script>" in page
    assert '<script defer src="../_static/doctools.js">' in page
    assert "<script>let inline = 1;</script>" in page
    assert pages.tuned(page, folder) == page


def test_scripts_where_they_are_needed(folder):
    page = pages.tuned(PAGE + '<div id="search-results"></div><div class="highlight">', folder)
    for script in ("_static/searchtools.js", "searchindex.js", "_static/copybutton.js"):
        assert f'<script defer src="../{script}">' in page


def test_pictures_have_a_size_and_all_but_the_first_wait(folder):
    page = pages.tuned(PAGE, folder)
    assert '<img width="100" height="40" alt="one &gt; two" src="../_images/one.svg" />' in page
    assert '<img width="100" height="40" loading="lazy" alt="" src="../_images/two.svg" />' in page
    assert '<img src="../_static/logo.svg" />' in page


def test_code_without_markup_that_has_no_colour(folder):
    code = '<span class="k">def</span><span class="w"> </span><span class="nf">f</span>'
    page = pages.tuned(PAGE + code + '<span class="p">():</span>', folder)
    assert page.endswith('<span class="k">def</span> <span class="nf">f</span>():')


def test_sources_are_a_list(folder):
    assert pages.tuned(PAGE + '<div role="doc-biblioentry">', folder).endswith('role="listitem">')


def test_no_identifier_that_every_exercise_has(folder):
    page = pages.tuned(PAGE + '<section id="exercise-content"><p id="proof">', folder)
    assert page.endswith("<section><p>")


def build(folder, text):
    """A page and the warnings of its build, with formulas and nothing else of the website."""
    (folder / "index.rst").write_text(text, encoding="utf-8")
    warnings = io.StringIO()
    config = {"extensions": ["website.katex"], "html_theme": "basic", "numfig": True}
    folders = (folder, None, folder / "out", folder / "out")
    Sphinx(*folders, "html", config, status=None, warning=warnings).build()
    return (folder / "out" / "index.html").read_text(encoding="utf-8"), warnings.getvalue()


def test_a_built_page_has_its_formulas_and_asks_no_other_host(tmp_path):
    page, warnings = build(
        tmp_path, "T\n=\n\nFirst, :math:`x^2`.\n\n.. math:: a = b\n   :label: e\n\nSee :eq:`e`.\n"
    )
    assert not warnings
    assert page.count("<math ") == 2
    assert '<span class="eqno">(1)<a class="headerlink" href="#equation-e"' in page
    assert 'href="#equation-e">(1)</a>' in page
    assert "MathJax" not in page and 'src="http' not in page


def test_the_last_box_of_a_formula_stays_with_the_sign_behind_it(tmp_path):
    page, _ = build(tmp_path, "T\n=\n\nHere :math:`a = b + c`.\n")
    formula = BeautifulSoup(page, "html.parser").select_one(".katex-html")
    assert [part["class"] for part in formula.children] == [["base"], ["base"], ["katex-last"]]
    assert formula.select_one(".katex-last > .base").text == "c"


def test_a_formula_that_katex_cannot_parse_is_a_warning_with_its_place(tmp_path):
    page, warnings = build(tmp_path, "T\n=\n\nText.\n\nHere :math:`\\nonsense < 1`.\n")
    assert "index.rst:6: WARNING: KaTeX parse error: Undefined control sequence" in warnings
    assert r"<code>\nonsense &lt; 1</code>" in page
