"""A small book, built as the course is, with and without a place where it is published."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import browser
import make_pdf
import nbformat
import publish
import pytest
import yaml
from bs4 import BeautifulSoup
from pypdf import PdfReader
from website import pages

ROOT = Path(__file__).parents[2]
CI = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "Fork-Er/course"}
THERE = "https://github.com/Fork-Er/course"
BRANCH = {"GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": "topic/a"}


@pytest.mark.parametrize(
    "variables, url, branch",
    [
        (CI | BRANCH, THERE, "topic/a"),
        (CI | BRANCH | {"GITHUB_BASE_REF": "main"}, THERE, "main"),  # a pull request
        (CI | {"GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v1"}, THERE, "HEAD"),
        (CI, THERE, "HEAD"),
        # No workflow: what is configured. There is no Binder for a server of one's own.
        ({}, "https://git.example.org/a/b", "c"),
    ],
)
def test_the_repository_is_that_of_the_workflow_or_the_configured_one(variables, url, branch):
    configured = {"repository_url": "https://git.example.org/a/b", "repository_branch": "c"}
    found = publish.theme_options(configured, variables)
    assert found["use_edit_page_button"]
    assert found["repository_url"] == url and found["repository_branch"] == branch
    assert bool(found["launch_buttons"]["binderhub_url"]) == url.startswith("https://github.com/")


ACTIONS = CI | {"GITHUB_ACTIONS": "true"}


@pytest.mark.parametrize(
    "variables, url",
    [
        ({}, ""),
        (CI, ""),  # a machine with the variables, which publishes nothing
        (ACTIONS, "https://fork-er.github.io/course/"),
        (ACTIONS | {"GITHUB_REPOSITORY": "A/a.github.io"}, "https://a.github.io/"),
        (ACTIONS | {"GITHUB_SERVER_URL": "https://git.example.org"}, ""),
        ({"BOOK_BASE_URL": "https://example.org/kl"}, "https://example.org/kl/"),
        ({"BOOK_BASE_URL": "http://[::1]:8000/"} | CI, "http://[::1]:8000/"),
    ],
)
def test_the_address_of_the_website(variables, url):
    assert publish.find_base_url(variables) == url


@pytest.mark.parametrize(
    "url",
    ["example.org", "/book/", "file:///book", "javascript:1", "https://[::1", "https://:80/"]
    + ["https://a:secret@example.org/", "https://:secret@example.org/", "https://@example.org/"]
    + [f"https://example.org/{end}" for end in (" ", "a b", "?x=1", "?", "#b", '"><script>', "@")],
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match="BOOK_BASE_URL") as error:
        publish.find_base_url({"BOOK_BASE_URL": url})
    assert "secret" not in str(error.value)


FIRST_PAGE = "chapters/part/first"
DESCRIBED = "It says what it does."


def run(book, **variables):
    """Build the small book in the configuration of the course."""
    shutil.copytree(ROOT / "code" / "tests" / "book", book, dirs_exist_ok=True)
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config["execute"] = {"execute_notebooks": "off"}
    (book / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    (book / "code").symlink_to(ROOT / "code")
    static = book / "chapters" / "_static"
    shutil.copytree(ROOT / "chapters" / "_static", static, dirs_exist_ok=True)
    shutil.copy(ROOT / "chapters" / "references.bib", book / "chapters")
    shutil.copy(static / "favicon.svg", book / "chapters" / "part" / "mark.svg")
    (book / "chapters" / "long.txt").write_text("word " * 600, encoding="utf-8")
    figure = ":::{figure} picture.svg\nBegins. " + "word " * 120 + "Ends.\n:::\n"
    (book / "chapters" / "figures.txt").write_text(figure * 9, encoding="utf-8")
    hidden = "GITHUB_", "BOOK_"
    environ = {key: os.environ[key] for key in os.environ if not key.startswith(hidden)}
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build"]
    options = {"cwd": book, "env": environ | variables, "capture_output": True, "text": True}
    return subprocess.run([*command, "--quiet", "-n", "-W", "--keep-going", "."], **options)


def build(book, **variables):
    done = run(book, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return book / "_build" / "html"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return build(tmp_path_factory.mktemp("published"), **ACTIONS, **BRANCH)


@pytest.fixture(scope="module")
def unknown(tmp_path_factory):
    return build(tmp_path_factory.mktemp("unknown"))


def read(html, page):
    return BeautifulSoup((html / f"{page}.html").read_text(encoding="utf-8"), "html.parser")


def test_a_page_asks_for_little_and_waits_for_nothing(published):
    page = read(published, FIRST_PAGE)
    assert len(page.select("meta[name=viewport]")) == 1
    [sheet] = page.select("link[rel=stylesheet]")
    assert re.fullmatch(r"\.\./\.\./_static/site\.css\?v=[0-9a-f]{8}", sheet["href"])
    assert not page.select("[rel=preload]")
    assert not page.select("script[src]")
    scripts = {script["data-src"].split("?")[0] for script in page.select("script[data-src]")}
    needed = {"copybutton.js", "tabstops.js", "doctools.js"}
    assert {f"../../_static/{name}" for name in needed} <= scripts
    assert not any(re.search("search|fontawesome|documentation", name) for name in scripts)
    assert read(published, "search").select("script[data-src^='_static/search.js']")
    # Tuned again, it is the same.
    text = (published / f"{FIRST_PAGE}.html").read_text(encoding="utf-8")
    text = re.sub(r"(site\.css\?v=)\w+", r"\1", text)
    assert pages.tuned(text, (published / FIRST_PAGE).parent, {}, {}) == text


def test_pictures_have_a_size_and_all_but_the_first_wait(published):
    first, second, _ = read(published, FIRST_PAGE).select("article img[src*=_images]")
    assert first["width"] == first["height"] == second["width"] == "32"
    assert [first.get("loading"), second.get("loading")] == [None, "lazy"]


def test_exercises_are_boxes_without_headings_and_figures_have_captions(published):
    page = read(published, FIRST_PAGE)
    headings = [heading.contents[1] for heading in page.select("article :is(h2, h3)")]
    assert headings == ["A section"]
    boxes = page.select("#a-section > :is(.exercise, .solution)")
    assert [box["class"][0] for box in boxes] == ["exercise", "solution", "exercise"]
    assert "Think." in boxes[1].text and "not 3?" in boxes[2].text
    picture, caption = page.select("figure#fig-square > :is(img, figcaption)")
    assert picture["src"].endswith(".svg") and picture["alt"] == "A blue square"
    assert caption.select_one(".caption-text").text.strip() == "A blue square."
    assert caption.em.text == "blue"
    assert "Figure." not in page.article.text


def test_a_still_figure_has_the_colours_of_the_page_and_no_ground(published):
    square = read(published, FIRST_PAGE).select_one("#fig-square > img")["src"]
    svg = (published / "chapters" / "part" / square).read_text(encoding="utf-8")
    [dark] = re.findall(r"@media\(prefers-color-scheme:dark\){:root{(.*?)}}", svg)
    ground, edged, letter = re.findall(r'<path [^>]*style="(.*?)"', svg)
    assert ground == "fill: none"
    assert edged == "fill: var(--live-0, #2f6690); stroke: currentColor"
    assert letter == "fill: var(--live-ground, #fff)"
    rules = dict(rule.split(":") for rule in dark.strip(";").split(";"))
    assert {"color", "--live-ground", *(f"--live-{k}" for k in range(6))} <= set(rules)


def test_a_downloaded_notebook_says_how_to_get_the_package(published, unknown):
    def first_code(html):
        _, cell, *_ = nbformat.read(html / "_sources" / f"{FIRST_PAGE}.ipynb", 4).cells
        return cell.source

    package = f"git+{THERE}@topic/a#subdirectory=code"
    assert first_code(published).endswith(f'\n%pip install --quiet "{package}" matplotlib sympy')
    command = "python -m pip install -r .binder/requirements.txt"
    assert command in first_code(unknown)
    assert command in (ROOT / "README.md").read_text(encoding="utf-8")


def test_code_has_no_markup_without_colour_and_an_output_is_in_one_piece(published):
    code, output = read(published, FIRST_PAGE).select(".cell:not(:has(svg, img)) pre")
    assert {part["class"][0] for part in code.select("span[class]")} == {"k", "nf", "nb", "mf"}
    assert code.get_text() == "def show():\n    print(0.265)\n\n\nshow()\n"
    assert output.get_text() == "0.265\n"


def test_an_equation_has_its_number_and_the_last_box_stays_with_the_sign_behind_it(published):
    page = read(published, FIRST_PAGE)
    assert page.select_one("#equation-eq-one .eqno").get_text().startswith("(1.1)")
    *_, last = page.select_one("section > p math").children
    assert last["class"] == ["last"] and last.text == "c"


def links(soup):
    return {a["href"] for a in soup.select(".article-header-buttons a")}


def test_a_notebook_is_launched_shown_edited_discussed_and_downloaded(published):
    found, file = links(read(published, FIRST_PAGE)), f"{FIRST_PAGE}.ipynb"
    binder = f"https://mybinder.org/v2/gh/Fork-Er/course/topic/a?urlpath=lab/tree/{file}"
    source, edit = f"{THERE}/blob/topic/a/{file}?plain=1", f"{THERE}/edit/topic/a/{file}"
    download = f"../../_sources/{file}"
    assert {binder, source, edit, download} <= found
    assert any(link.startswith(f"{THERE}/issues/new?") for link in found)
    assert (published / FIRST_PAGE).parent.joinpath(download).resolve().exists()
    # A page without code is not launched.
    found = links(read(published, "chapters/notes"))
    assert f"{THERE}/edit/topic/a/chapters/notes.md" in found
    assert not any("mybinder" in link for link in found)


def test_without_a_repository_there_are_no_buttons_to_it(unknown):
    for path in unknown.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"mybinder\.org|github\.com|github\.io", text), path.name


def meta(soup):
    tags = soup.select("meta")
    return {tag.get("property") or tag.get("name"): tag.get("content") for tag in tags}


def test_social_media_get_a_card_and_the_description_of_the_notebook(published):
    base = "https://fork-er.github.io/course/"
    tags = meta(read(published, FIRST_PAGE))
    assert tags["og:title"] == "1. The first"
    assert tags["og:url"] == f"{base}{FIRST_PAGE}.html"
    assert tags["description"] == tags["og:description"] == DESCRIBED
    assert tags["twitter:card"] == "summary_large_image"
    picture = published / tags["og:image"].removeprefix(base)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "triangle" in tags["og:image:alt"]


def test_the_bare_address_says_what_is_there_and_leads_to_it(published, unknown):
    base = "https://fork-er.github.io/course/"
    root, tags = read(published, "index"), meta(read(published, "index"))
    assert root.html["lang"] == "en"
    assert root.title.text == read(published, "chapters/home").title.text == "From KL to DPO"
    assert root.select_one("link[rel=canonical]")["href"] == f"{base}chapters/home.html"
    assert tags["og:title"] == "A book" and tags["og:image"] == f"{base}_static/preview.png"
    for page in (root, read(unknown, "index")):
        assert page.select_one("meta[http-equiv=refresh]")["content"] == "0; url=chapters/home.html"
        assert page.body.a["href"] == "chapters/home.html" and page.body.a.text == "From KL to DPO"


def test_no_index_is_built_that_no_page_links_to(published):
    assert not [
        *published.glob("genindex*"),
        *published.glob("*modindex*"),
        *published.glob("prf*"),
    ]


def test_without_an_address_nothing_wrong_is_said_about_it(unknown):
    tags = meta(read(unknown, FIRST_PAGE))
    assert tags["description"] == DESCRIBED
    assert not {"og:url", "og:image"} & set(tags)
    assert not list(unknown.rglob("sitemap.xml"))
    assert not read(unknown, FIRST_PAGE).select("link[rel=canonical]")


def test_the_sitemap_lists_the_pages_to_read(published):
    base = "https://fork-er.github.io/course/"
    listed = [loc.text for loc in ElementTree.parse(published / "sitemap.xml").iter() if loc.text]
    pages = ["chapters/home", FIRST_PAGE, "chapters/notes"]
    assert sorted(listed) == sorted(f"{base}{page}.html" for page in pages)
    assert f"Sitemap: {base}sitemap.xml" in (published / "robots.txt").read_text()
    for page in ("search", "404"):
        assert meta(read(published, page))["robots"] == "noindex"


def test_the_page_that_is_not_found_works_at_any_depth(published, unknown):
    page = read(published, "404")
    # Before anything that has an address.
    assert page.head.find(["base", "link", "script"]).name == "base"
    assert page.base["href"] == "https://fork-er.github.io/course/404.html"
    assert page.select_one("article form[action='search.html'] input[name=q]")
    assert page.select_one("article a[href='chapters/home.html']")
    assert page.h1.get_text() == "Page not found"
    assert not read(unknown, "404").base


def test_a_chapter_begins_with_its_time_its_ways_and_its_needs(published):
    page = read(published, FIRST_PAGE)
    assert page.article.get_text().count("You need:") == 1
    box = page.select_one("article h1 + .chapter-facts")
    facts, needs = box.select("p")
    assert facts.get_text() == (
        "6 minutes · optional · part of DPO in one hour (A section)"
        " · part of the way for those who train models"
    )
    assert needs.get_text().startswith("You need: the start, and ")
    assert [link["href"] for link in box.select("a")] == ["#a-section", "../home.html"]
    assert not read(published, "chapters/notes").select(".chapter-facts")


def test_beside_a_page_stands_its_place_on_each_way(published):
    places = read(published, FIRST_PAGE).select("#pst-secondary-sidebar .page-place p")
    assert [place.text for place in places] == ["DPO in one hour: 1 of 1", "I train models: 1 of 1"]


def test_the_first_page_has_the_time_of_each_way_and_the_menu_what_is_optional(published):
    home = read(published, "chapters/home")
    ways = home.select_one("article h1 + .chapter-facts").get_text().strip()
    assert ways == (
        "Three ways: the whole course, 6 minutes · DPO in one hour, 3 · for those who train models, 6"
    )
    assert home.select_one("nav .toctree-l1 em").parent.get_text() == "1. The first (optional)"


def test_every_heading_equation_and_exercise_has_a_permalink(published):
    page = read(published, FIRST_PAGE)
    for link in page.select("a.headerlink"):
        # The sign is not read out, so the title is the name.
        assert link.span["aria-hidden"] == "true" and link["title"]
    found = {link["href"] for link in page.select("a.headerlink")}
    assert {"#the-first", "#a-section", "#equation-eq-one", "#ex-one"} <= found
    assert page.select_one("#ex-one a.headerlink")["title"] == "Link to this exercise"


def test_references_are_a_list_for_a_screen_reader(published):
    entries = read(published, "chapters/notes").select("[role=list] > *")
    assert [entry["role"] for entry in entries] == ["listitem"]


# The PDF.


def test_places_of_links():
    paths = {"chapters/home.html", "chapters/part/first.html"}

    def link(href, base_url=""):
        return make_pdf.link(href, "chapters/part/first.html", paths, base_url)

    assert link("https://example.org/a") == "https://example.org/a"
    assert link("#eq-one") == "#chapters-part-first--eq-one"
    assert link("../home.html#a-b") == "#chapters-home--a-b"
    assert link("../../search.html") is None
    assert link("../../a.html#x", "https://example.org/") == "https://example.org/a.html#x"


def test_without_a_browser_nothing_is_changed(unknown, monkeypatch):
    monkeypatch.setenv("CHROMIUM", str(unknown / "no-such-program"))
    with pytest.raises(SystemExit, match="No PDF was made"):
        make_pdf.main(unknown)
    assert not list(unknown.glob("*.pdf")) and not list(unknown.glob("whole-book*"))
    assert not read(unknown, FIRST_PAGE).find(id="book-pdf").a


def test_each_reference_of_the_whole_book_has_its_place(published):
    document = BeautifulSoup(make_pdf.one_document(published)[0], "html.parser")
    ids = [part["id"] for part in document.select("[id]")]
    assert len(ids) == len(set(ids))
    named = [value for part in document() for name, value in part.attrs.items() if name != "id"]
    referred = [v[1:] for v in named if isinstance(v, str) and re.fullmatch(r"#.+", v)]
    referred += re.findall(r"url\(#([^)]+)\)", str(document))
    assert {"shape", "half", "chapters-home"} <= set(referred) <= set(ids)


def test_each_solution_comes_after_the_last_exercise_with_links_both_ways(published):
    document = BeautifulSoup(make_pdf.one_document(published)[0], "html.parser")
    *exercises, solutions, solution = document.select(".exercise, #solutions, .solution")
    assert solutions["id"] == "solutions" and "solution" in solution["class"]
    exercise, _ = exercises
    place = exercise.find_next_sibling()
    assert place.a["href"] == f"#{solution.section['id']}"
    assert solution.summary.a["href"] == f"#{place['id']}"
    assert place.a.text == solution.summary.a.text == "Solution to Exercise 1.1"


@pytest.fixture(scope="module")
def pdf(published):
    if not browser.find():
        pytest.skip("no Chromium or Chrome found: install one, or set CHROMIUM to it")
    make_pdf.main(published)
    return next(published.glob("*.pdf"))


def test_the_pdf_has_bookmarks_in_the_order_of_the_menu(pdf):
    reader = PdfReader(pdf)
    home, part, in_part, *appendix, solutions = reader.outline
    assert [home.title, part.title] == ["A book", "Part I"]
    assert [in_part[0].title, in_part[1][0].title] == ["1. The first (optional)", "1.1. A section"]
    assert [appendix[0].title, appendix[1][0].title] == ["Appendix", "Notes"]
    assert solutions.title == "Solutions"
    chapter = reader.get_destination_page_number(in_part[0])
    assert "Text before the sentence" in reader.pages[chapter].extract_text()


def test_the_pdf_is_tagged_named_and_has_links_that_go_somewhere(pdf):
    reader = PdfReader(pdf)
    root = reader.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"] and root["/Lang"] == "en"
    assert reader.metadata.title == "A book"
    links = [link.get_object() for page in reader.pages for link in page.get("/Annots", ())]
    inside = {str(link["/Dest"]).removeprefix("/") for link in links if "/Dest" in link}
    outside = {link["/A"]["/URI"] for link in links if "/Dest" not in link}
    places = {name.removeprefix("/") for name in reader.named_destinations}
    expected = {"chapters-home", "chapters-part-first--equation-eq-one", "chapters-notes"}
    assert expected <= inside <= places
    assert "https://example.org/library" in outside
    assert all(link.startswith("https://") for link in outside), outside
    text = "".join(page.extract_text() for page in reader.pages)
    assert "Think." in text, "the solution is open"
    assert "Search" not in text and "Next" not in text


def test_each_tag_of_the_pdf_means_something_and_has_all_its_text(pdf):
    assert b"/NonStruct" not in pdf.read_bytes()
    tree = PdfReader(pdf).root_object["/StructTreeRoot"]
    kinds, found = set(), []

    def walk(tag, reference):
        kinds.add(tag["/S"])
        for kid in tag["/K"]:
            part = kid.get_object()
            if isinstance(part, int) or "/MCID" in part:
                page = tag if isinstance(part, int) else part
                number = part if isinstance(part, int) else part["/MCID"]
                found.append((page.raw_get("/Pg").idnum, number, reference.idnum))
            elif "/S" in part:
                assert part.raw_get("/P") == reference
                walk(part, kid)

    walk(tree["/K"], tree.raw_get("/K"))
    assert {"/Code", "/P", "/Figure"} <= kinds
    # The way back, from each page.
    tags = dict(zip(*(tree["/ParentTree"]["/Nums"][i::2] for i in (0, 1)), strict=True))
    expected = [
        (page.indirect_reference.idnum, number, tag.idnum)
        for page in PdfReader(pdf).pages
        for number, tag in enumerate(tags[page["/StructParents"]].get_object())
    ]
    assert sorted(found) == sorted(expected)


def test_the_pdf_has_no_shade_at_the_edge_of_code(pdf):
    assert b"/PatternType" not in pdf.read_bytes()
    assert not any(page.images for page in PdfReader(pdf).pages)


def test_no_page_of_the_pdf_is_empty_and_a_caption_is_below_its_figure(pdf):
    texts = [page.extract_text() for page in PdfReader(pdf).pages]
    assert all(len(text.split()) > 3 for text in texts), texts
    counts = [[text.count(word) for word in ("Picture", "Begins", "Ends")] for text in texts]
    assert sum(map(sum, counts)) == 27
    assert all(picture == begins == ends for picture, begins, ends in counts), counts


def test_every_page_links_to_the_pdf(pdf, published):
    for path in published.rglob("*.html"):
        soup = read(published, path.relative_to(published).with_suffix(""))
        if place := soup.find(id="book-pdf"):
            base = published if soup.base else path.parent
            assert (base / place.a["href"]).resolve() == pdf
            assert not place.has_attr("hidden")
    assert read(published, FIRST_PAGE).find(id="book-pdf").a
