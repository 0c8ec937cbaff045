"""A small book, built as the course is, with and without a place where it is published."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from bs4 import BeautifulSoup
from docutils import nodes
from pypdf import PdfReader

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "code" / "book"))

import browser  # noqa: E402
import make_pdf  # noqa: E402
import publish  # noqa: E402


@pytest.mark.parametrize(
    "remote",
    [
        "https://github.com/some-owner/kl.course",
        "https://github.com/some-owner/kl.course.git",
        "https://github.com/some-owner/kl.course/",
        "https://www.GitHub.com/some-owner/kl.course.git",
        "https://user@github.com/some-owner/kl.course.git",
        "https://user:pass@word@github.com/some-owner/kl.course.git",
        "git@github.com:some-owner/kl.course.git",
        "github.com:some-owner/kl.course",
        "ssh://git@github.com/some-owner/kl.course.git",
        "ssh://git@ssh.github.com:443/some-owner/kl.course.git",
        "git://github.com/some-owner/kl.course.git\n",
    ],
)
def test_a_remote_on_github_gives_owner_and_name_and_nothing_else(remote):
    assert publish.name_on_github(remote) == "some-owner/kl.course"


@pytest.mark.parametrize(
    "remote",
    [
        "",
        "/srv/github.com/owner/name",
        "../github.com/owner/name",
        "file:///srv/github.com/owner/name",
        "https://gitlab.com/owner/name.git",
        "https://notgithub.com/owner/name",
        "https://github.com.example.org/owner/name",
        "https://example.org/@github.com/owner/name",
        "git@example.org:github.com/owner/name.git",
        "https://github.com/owner",
        "https://github.com/owner/name/tree/main",
        "https://github.com/owner/na me",
        'https://github.com/owner/name"><script>',
    ],
)
def test_another_remote_gives_nothing(remote):
    assert publish.name_on_github(remote) is None


def git(folder, *arguments):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path):
    """A repository whose book is in a folder, with a password in its remote."""
    git(tmp_path, "init", "--initial-branch", "draft")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "_config.yml").touch()
    git(tmp_path, "add", ".")
    git(tmp_path, "remote", "add", "origin", "https://x-access-token:secret@github.com/own/er.git")
    return tmp_path / "book"


def test_the_repository_comes_from_the_remote(checkout):
    found = publish.find_repository(checkout, {})
    assert found == publish.Repository("https://github.com", "own/er", "draft", "book")
    assert "secret" not in repr(found)


def test_the_branch_is_the_default_one_of_the_remote(checkout):
    git(checkout, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    assert publish.find_repository(checkout, {}).branch == "main"


def test_a_copy_inside_the_repository_of_another_project_has_none(checkout):
    inner = checkout / "unpacked"
    inner.mkdir()
    (inner / "_config.yml").touch()
    assert publish.find_repository(inner, {}) is None


def test_no_remote_or_no_git_is_no_repository(checkout, tmp_path, monkeypatch):
    git(checkout, "remote", "remove", "origin")
    assert publish.find_repository(checkout, {}) is None
    monkeypatch.setenv("PATH", "")
    assert publish.find_repository(checkout, {}) is None


CI = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "Fork-Er/course"}


@pytest.mark.parametrize(
    "variables, branch",
    [
        ({"GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": "topic/a"}, "topic/a"),
        # A pull request: its own reference cannot be edited.
        (
            {"GITHUB_BASE_REF": "main", "GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": "7/merge"},
            "main",
        ),
        ({"GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v1"}, "HEAD"),
        ({}, "HEAD"),
    ],
)
def test_the_variables_of_the_ci_come_first(checkout, variables, branch):
    found = publish.find_repository(checkout, CI | variables)
    assert found == publish.Repository("https://github.com", "Fork-Er/course", branch, "book")


@pytest.mark.parametrize(
    "variables, url",
    [
        ({}, ""),
        (CI, ""),  # A machine with the variables, which publishes nothing.
        (CI | {"GITHUB_ACTIONS": "true"}, "https://fork-er.github.io/course/"),
        (
            CI | {"GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "Fork-Er/fork-er.github.io"},
            "https://fork-er.github.io/",
        ),
        (CI | {"GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": "https://git.example.org"}, ""),
        ({"BOOK_BASE_URL": "https://example.org/kl"}, "https://example.org/kl/"),
        ({"BOOK_BASE_URL": "https://example.org"} | CI, "https://example.org/"),
    ],
)
def test_the_address_of_the_website(variables, url):
    assert publish.find_base_url(variables) == url


@pytest.mark.parametrize(
    "url", ["example.org", "/book/", "file:///book", "https://a:secret@example.org/"]
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match="BOOK_BASE_URL") as error:
        publish.find_base_url({"BOOK_BASE_URL": url})
    assert "secret" not in str(error.value)


def test_a_server_of_ones_own_has_no_binder():
    repository = publish.Repository("https://git.example.org", "a/b", "main")
    assert publish.theme_options(repository)["launch_buttons"]["binderhub_url"] == ""


def paragraph(*children):
    return nodes.paragraph("", "", *children)


def test_a_description_is_whole_sentences_without_latex():
    cited = nodes.inline("", "[3]", classes=["bibtex-citation"])
    section = nodes.section("", nodes.title("", "Title"))
    section += paragraph(nodes.Text("Skip "), nodes.math("", r"\alpha"), nodes.Text(". Let "))
    section[-1] += [
        nodes.math("", "(2, 1)"),
        nodes.Text(" be "),
        cited,
        nodes.Text(". A < B (简体中文)."),
    ]
    section += paragraph(nodes.Text("Too long for it, " * 20 + "the end."))
    assert publish.describe(section, 100) == "Let (2, 1) be. A &lt; B."
    assert publish.describe(section, 5) == ""


def test_exercises_and_folded_code_do_not_count_as_reading():
    words = nodes.Text("word " * 1000)
    section = nodes.section("", paragraph(words))
    assert publish.reading_minutes(section) == 5
    section += nodes.math_block("", r"\alpha " * 100)
    section += nodes.literal_block("", "x = 1\n" * 99)
    assert publish.reading_minutes(section) == 10
    code = nodes.literal_block("", "x = 1\n" * 999)
    section += nodes.container(
        "", nodes.container("", code, classes=["cell_input"]), classes=["tag_hide-input"]
    )
    section += nodes.container("", code.deepcopy(), classes=["cell_output"])
    section += nodes.container("", paragraph(words.copy()), classes=["exercise"])
    section += nodes.comment("", "word " * 1000)
    assert publish.reading_minutes(section) == 10


# A book with two notebooks and a page without code, in the configuration of the course.

HOME = "(home)=\n# A book\n\nIt has one chapter: [the first](part/first.ipynb#a-section).\n"
FIRST = """(first)=
# The first

It says what it does.

You need: [the start](../home.ipynb), and $\\alpha$.

## A section

```{math}
:label: eq-one
1 + 1 = 2
```

```{exercise}
:label: ex-one
Why is {eq}`eq-one` true?
```

````{solution-start} ex-one
:class: dropdown
````

Think.

````{solution-end}
````

See [the notes](../notes.md), [a library](https://example.org/library) and ![a mark](mark.svg).
"""
NOTES = "# Notes\n\n{cite:p}`rafailov2023`\n\n```{bibliography}\n```\n"
TOC = {
    "format": "jb-book",
    "root": "chapters/home",
    "parts": [
        {"caption": "Part I", "numbered": True, "chapters": [{"file": "chapters/part/first"}]},
        {"caption": "Appendix", "chapters": [{"file": "chapters/notes"}]},
    ],
}


def notebook(text):
    """A notebook with one cell of text."""
    cell = {
        "cell_type": "markdown",
        "id": "a",
        "metadata": {},
        "source": text.replace("\\\\", "\\"),
    }
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = {
        "cells": [cell],
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content)


def build(book, **variables):
    """Build the small book and return the folder of its website."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config["execute"] = {"execute_notebooks": "off"}
    (book / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (book / "_toc.yml").write_text(yaml.safe_dump(TOC), encoding="utf-8")
    (book / "code").symlink_to(ROOT / "code")
    chapters = book / "chapters"
    (chapters / "part").mkdir(parents=True)
    for shared in ("_static", "references.bib"):
        (chapters / shared).symlink_to(ROOT / "chapters" / shared)
    (chapters / "home.ipynb").write_text(notebook(HOME), encoding="utf-8")
    (chapters / "part" / "first.ipynb").write_text(notebook(FIRST), encoding="utf-8")
    (chapters / "part" / "mark.svg").write_bytes(
        (chapters / "_static" / "favicon.svg").read_bytes()
    )
    (chapters / "notes.md").write_text(NOTES, encoding="utf-8")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    environ.pop("BOOK_BASE_URL", None)
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build"]
    options = ["--quiet", "-n", "-W", "--keep-going", "."]
    done = subprocess.run(
        command + options, cwd=book, env=environ | variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return book / "_build" / "html"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    variables = {
        **CI,
        "GITHUB_ACTIONS": "true",
        "GITHUB_REF_TYPE": "branch",
        "GITHUB_REF_NAME": "main",
    }
    return build(tmp_path_factory.mktemp("published"), **variables)


@pytest.fixture(scope="module")
def unknown(tmp_path_factory):
    return build(tmp_path_factory.mktemp("unknown"))


def read(html, page):
    return BeautifulSoup((html / f"{page}.html").read_text(encoding="utf-8"), "html.parser")


FIRST_PAGE = "chapters/part/first"


def links(soup):
    return {a["href"] for a in soup.select(".article-header-buttons a")}


def test_a_notebook_is_launched_shown_edited_discussed_and_downloaded(published):
    there = "https://github.com/Fork-Er/course"
    found = links(read(published, FIRST_PAGE))
    binder = "https://mybinder.org/v2/gh/Fork-Er/course/main?urlpath=lab/tree/"
    assert f"{binder}{FIRST_PAGE}.ipynb" in found
    assert f"{there}/blob/main/{FIRST_PAGE}.ipynb?plain=1" in found
    assert f"{there}/edit/main/{FIRST_PAGE}.ipynb" in found
    assert any(link.startswith(f"{there}/issues/new?") for link in found)
    download = f"../../_sources/{FIRST_PAGE}.ipynb"
    assert download in found
    assert (published / FIRST_PAGE).parent.joinpath(download).resolve().exists()


def test_a_page_without_code_is_not_launched(published):
    found = links(read(published, "chapters/notes"))
    assert "https://github.com/Fork-Er/course/edit/main/chapters/notes.md" in found
    assert not any("mybinder" in link for link in found)


def test_without_a_repository_there_are_no_buttons_to_it(unknown):
    for path in unknown.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"mybinder\.org|github\.com|github\.io", text), path.name


def meta(soup):
    return {
        tag.get("property") or tag.get("name"): tag.get("content") for tag in soup.select("meta")
    }


def test_social_media_get_a_card_and_a_description(published):
    base = "https://fork-er.github.io/course/"
    tags = meta(read(published, FIRST_PAGE))
    assert tags["og:title"] == "1. The first"
    assert tags["og:url"] == f"{base}{FIRST_PAGE}.html"
    assert tags["description"] == tags["og:description"] == "It says what it does."
    assert tags["twitter:card"] == "summary_large_image"
    picture = published / tags["og:image"].removeprefix(base)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_an_address_nothing_wrong_is_said_about_it(unknown):
    tags = meta(read(unknown, FIRST_PAGE))
    assert tags["description"] == "It says what it does."
    assert not {"og:url", "og:image"} & set(tags)
    assert not list(unknown.rglob("sitemap.xml"))
    assert not read(unknown, FIRST_PAGE).select("link[rel=canonical]")


def test_the_sitemap_lists_the_pages_to_read(published):
    base = "https://fork-er.github.io/course/"
    listed = [loc.text for loc in ElementTree.parse(published / "sitemap.xml").iter() if loc.text]
    pages = ["chapters/home", FIRST_PAGE, "chapters/notes"]
    assert sorted(listed) == sorted(f"{base}{page}.html" for page in pages)
    assert f"Sitemap: {base}sitemap.xml" in (published / "robots.txt").read_text()
    for page in ("search", "genindex", "404"):
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


def test_a_chapter_begins_with_its_time_and_its_needs(published):
    chapter = read(published, FIRST_PAGE).select_one("article h1").find_next("p")
    assert chapter["class"] == ["chapter-facts"]
    text = " ".join(chapter.get_text().split())
    assert text.startswith("Reading time: about 5 minutes. You need: the start, and ")
    assert chapter.a["href"] == "../home.html"
    for page in ("chapters/home", "chapters/notes"):
        assert not read(published, page).select(".chapter-facts")


def test_every_heading_equation_and_exercise_has_a_permalink(published):
    page = read(published, FIRST_PAGE)
    for link in page.select("a.headerlink"):
        assert page.find(id=link["href"].removeprefix("#")), link
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
    assert link("../home.html") == "#chapters-home"
    assert link("../home.html#a-b") == "#chapters-home--a-b"
    assert link("../../search.html") is None
    assert (
        link("../../search.html#x", "https://example.org/") == "https://example.org/search.html#x"
    )


def test_the_menu_gives_the_order(published):
    listed = [(page.path, page.title, page.part) for page in make_pdf.read_menu(published)]
    assert listed == [
        ("chapters/home.html", "A book", ""),
        ("chapters/part/first.html", "1. The first", "Part I"),
        ("chapters/notes.html", "Notes", "Appendix"),
    ]


def test_without_a_browser_nothing_is_changed(unknown, monkeypatch):
    monkeypatch.setenv("CHROMIUM", str(unknown / "no-such-program"))
    with pytest.raises(SystemExit, match="No PDF was made"):
        make_pdf.main([str(unknown)])
    assert not list(unknown.glob("*.pdf")) and not list(unknown.glob("whole-book*"))
    assert not read(unknown, FIRST_PAGE).find(id="book-pdf").a


@pytest.fixture(scope="module")
def pdf(published):
    if not browser.find():
        pytest.skip("no Chromium or Chrome found: install one, or set CHROMIUM to it")
    make_pdf.main([str(published)])
    return next(published.glob("*.pdf"))


def test_the_pdf_has_bookmarks_in_the_order_of_the_menu(pdf):
    reader = PdfReader(pdf)
    home, part, in_part, *appendix = reader.outline
    assert home.title == "A book"
    assert part.title == "Part I"
    assert [in_part[0].title, in_part[1][0].title] == ["1. The first", "1.1. A section"]
    assert [appendix[0].title, appendix[1][0].title] == ["Appendix", "Notes"]
    chapter = reader.get_destination_page_number(in_part[0])
    assert "It says what it does." in reader.pages[chapter].extract_text()
    # The page numbers of the contents (a font may have one glyph for "fi").
    assert re.search(rf"1\. The \w+rst\s*{chapter + 1}\b", reader.pages[1].extract_text())


def test_the_pdf_is_tagged_named_and_has_links_that_go_somewhere(pdf):
    reader = PdfReader(pdf)
    root = reader.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"] and root["/Lang"] == "en"
    assert reader.metadata.title == "A book"
    assert reader.metadata.author == "The authors of From KL to DPO"
    inside, outside = set(), set()
    for page in reader.pages:
        for link in page.get("/Annots", ()):
            link = link.get_object()
            if "/Dest" in link:
                inside.add(str(link["/Dest"]).removeprefix("/"))
            else:
                outside.add(link["/A"]["/URI"])
    places = {name.removeprefix("/") for name in reader.named_destinations}
    assert (
        {"chapters-home", "chapters-part-first--equation-eq-one", "chapters-notes"}
        <= inside
        <= places
    )
    assert "https://example.org/library" in outside
    assert all(link.startswith("https://") for link in outside), outside


def test_the_solution_is_open_in_the_pdf_and_the_buttons_are_not_there(pdf):
    text = "".join(page.extract_text() for page in PdfReader(pdf).pages)
    assert "Think." in text
    assert "Search" not in text and "Next" not in text


def test_every_page_links_to_the_pdf(pdf, published):
    for path in published.rglob("*.html"):
        soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        if place := soup.find(id="book-pdf"):
            base = published if soup.base else path.parent
            assert (base / place.a["href"]).resolve() == pdf
            assert not place.has_attr("hidden")
    assert read(published, FIRST_PAGE).find(id="book-pdf").a
