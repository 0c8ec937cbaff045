"""Make one PDF of the built website, with bookmarks and page numbers, and link it from every page.

All pages become one document, in the order of the menu, so that a link from a chapter to another
is a link inside the PDF. A headless Chromium prints it, twice: the second time with the numbers of
the pages in the table of contents.
"""

import argparse
import posixpath
import re
import sys
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import browser
from bs4 import BeautifulSoup
from playwright.sync_api import Error, sync_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import Fit

HTML = Path(__file__).parents[2] / "_build" / "html"
# What a reader of paper cannot use, and the code that draws the figures.
DROPPED = "script, button, dialog, a.headerlink, details.hide, .kl2dpo-slider-control"
# Attributes that hold ids; those of links are treated apart.
NAMING = ("for", "headers", "aria-labelledby", "aria-describedby")
# book.css has the rest: this is for what only the PDF has.
STYLE = """
@page {
  size: A4;
  margin: 20mm 20mm 22mm;
  @bottom-center { content: counter(page); font: 9pt sans-serif; }
}
@page :first { @bottom-center { content: none; } }
body { display: block; }
.bd-article, .book-contents { break-before: page; }
.book-cover { padding-top: 80mm; text-align: center; }
.book-cover .title { font-size: 3em; }
.book-contents h2 { font-size: 1.3em; margin: 1.2em 0 0.3em; }
.book-contents ol { list-style: none; margin: 0; padding: 0; }
.book-contents ol ol { font-size: 0.9em; padding-left: 1.5em; }
.book-contents a { color: inherit; text-decoration: none; }
.book-contents div { display: flex; justify-content: space-between; }
"""


@dataclass
class Page:
    """A page of the website, in the order of its menu."""

    path: str
    title: str
    part: str = ""  # the caption above it in the menu, on the first page of a part
    sections: list = field(default_factory=list)  # pairs of an anchor and a title
    article: str = ""

    @property
    def name(self):
        return name_of(self.path)


def name_of(path, anchor=""):
    """The id that a page, or a place on it, has in the PDF."""
    name = path.removesuffix(".html").replace("/", "-")
    return f"{name}--{anchor}" if anchor else name


def join(page, path):
    """A path on a page, as seen from the root of the website."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page


def read(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def read_menu(html):
    """The pages of the book, from the menu of the first one."""
    first = re.search(r"url=([^\"']+)", (html / "index.html").read_text(encoding="utf-8"))[1]
    pages, part = [], ""
    for item in read(html / first).select("nav.bd-docs-nav p.caption, nav.bd-docs-nav a"):
        text = " ".join(item.get_text().split())
        if item.name == "p":
            part = text
        else:
            path = join(first, urldefrag(item["href"])[0].removeprefix("#"))
            pages.append(Page(path, text, part))
            part = ""
    return pages


def link(href, page, paths, base_url):
    """Where a link of a page goes in the PDF, or nowhere."""
    if urlsplit(href).scheme:
        return href
    path, anchor = urldefrag(href)
    target = join(page, path)
    if target in paths:
        return "#" + name_of(target, unquote(anchor))
    return f"{base_url}{target}{anchor and '#' + anchor}" if base_url else None


def prepare(article, page, paths, base_url):
    """Change the content of a page so that it can stand beside that of the others."""
    for element in article.select(DROPPED):
        element.decompose()
    for element in article.find_all(True):
        if "id" in element.attrs:
            element["id"] = name_of(page, element["id"])
        for attribute in NAMING:
            if attribute in element.attrs:
                names = element[attribute]
                names = names.split() if isinstance(names, str) else names
                element[attribute] = " ".join(name_of(page, name) for name in names)
        if "href" in element.attrs:
            element["href"] = link(element["href"], page, paths, base_url)
            if element["href"] is None:
                del element["href"]
        if element.name == "img":
            del element["loading"]
            if not urlsplit(element["src"]).scheme:
                element["src"] = join(page, element["src"])
        if element.name == "details":
            element["open"] = ""
    article["id"] = name_of(page)
    return str(article)


def head_of(soup, page):
    """The styles of a page."""
    for element in soup.head.select("link[rel=stylesheet], style"):
        if "href" in element.attrs and not urlsplit(element["href"]).scheme:
            element["href"] = join(page, element["href"])
        yield str(element)


def table_of_contents(pages, numbers):
    """With the numbers of pages where they are known."""

    def line(name, text):
        number = numbers.get(name, "")
        return f'<div><a href="#{name}">{escape(text)}</a><span>{number}</span></div>'

    lines = []
    for page in pages:
        lines.append(f"<h2>{escape(page.part)}</h2>" if page.part else "")
        inner = "".join(
            f"<li>{line(name_of(page.path, anchor), text)}</li>" for anchor, text in page.sections
        )
        lines.append(f"<ol><li>{line(page.name, page.title)}<ol>{inner}</ol></li></ol>")
    return "".join(lines)


def one_document(html, pages):
    """A function from the numbers of pages to the whole book as one page of HTML."""
    paths = {page.path for page in pages}
    head = {}
    for page in pages:
        soup = read(html / page.path)
        canonical = soup.head.select_one("link[rel=canonical]")
        base_url = canonical["href"].removesuffix(page.path) if canonical else ""
        head.update(dict.fromkeys(head_of(soup, page.path)))
        article = soup.select_one("article.bd-article")
        page.article = prepare(article, page.path, paths, base_url)
        page.sections = [
            (
                heading.parent["id"].removeprefix(page.name + "--"),
                " ".join(heading.get_text().split()),
            )
            for heading in article.select("section > h2")
        ]
    language, title, author = soup.html.get("lang", "en"), pages[0].title, author_of(soup)

    def document(numbers):
        return f"""<!DOCTYPE html>
<html lang="{language}" data-theme="light">
<head><meta charset="utf-8"><title>{escape(title)}</title>
{"".join(head)}<style>{STYLE}</style></head>
<body><header class="book-cover"><p class="title">{escape(title)}</p><p>{escape(author)}</p>
<p>{escape(base_url)}</p></header>
<nav class="book-contents"><h1>Contents</h1>{table_of_contents(pages, numbers)}</nav>
<main class="bd-main"><div class="bd-content"><div class="bd-article-container">
{"".join(page.article for page in pages)}
</div></div></main></body></html>"""

    return document


def author_of(soup):
    author = soup.head.select_one("meta[name=author]")
    return author["content"] if author else ""


def print_pdf(tab, file, pdf):
    """Let Chromium print a file as a PDF with tags, which tell a screen reader its structure."""
    tab.goto(file.as_uri(), timeout=300_000)
    tab.evaluate("document.fonts.ready")
    tab.pdf(path=pdf, prefer_css_page_size=True, print_background=True, tagged=True)


def places_in(pdf):
    """The place of each id that something links to: the number of its page, and how far up."""
    reader = PdfReader(pdf)
    return {
        name.removeprefix("/"): (reader.get_destination_page_number(place) + 1, place.top)
        for name, place in reader.named_destinations.items()
    }


def finish(pdf, pages, author):
    """Add the bookmarks and show them when the file is opened; return the number of its pages.

    The bookmarks that Chromium makes repeat the text of a heading on top of a page.
    """
    places = places_in(pdf)
    starts = {page.name for page in pages if page.part}
    writer = PdfWriter(clone_from=pdf)

    def bookmark(text, name, parent):
        number, top = places[name]
        return writer.add_outline_item(
            title=text,
            page_number=number - 1,
            parent=parent,
            fit=Fit.xyz(top=top),
            # Parts show their chapters, chapters hide their sections.
            is_open=parent is None and name in starts,
        )

    part = None
    for page in pages:
        if page.part:
            part = bookmark(page.part, page.name, None)
        chapter = bookmark(page.title, page.name, part)
        for anchor, text in page.sections:
            bookmark(text, name_of(page.path, anchor), chapter)
    writer.page_mode = "/UseOutlines"
    writer.add_metadata({"/Title": pages[0].title, "/Author": author})
    writer.write(pdf)
    return len(writer.pages)


def link_from_pages(html, pdf):
    """Show the link that the template has kept a place for."""
    text = f"The whole book as PDF ({pdf.stat().st_size / 1e6:.1f} MB)"
    for path in html.rglob("*.html"):
        href = "../" * (len(path.relative_to(html).parts) - 1) + pdf.name
        shown = f'<nav id="book-pdf" aria-label="PDF"><a href="{href}">{text}</a></nav>'
        before = path.read_text(encoding="utf-8")
        after = re.sub(r'<nav id="book-pdf".*?</nav>', shown, before, flags=re.DOTALL)
        if after != before:
            path.write_text(after, encoding="utf-8")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("html", nargs="?", type=Path, default=HTML, help="the built website")
    html = parser.parse_args(arguments).html.resolve()
    pages = read_menu(html)
    document = one_document(html, pages)
    author = author_of(read(html / pages[0].path))
    pdf = html / (re.sub(r"\W+", "-", pages[0].title.lower()).strip("-") + ".pdf")
    # Beside the pages, so that their styles and pictures are found.
    file = html / "whole-book.html"
    try:
        with sync_playwright() as playwright, browser.launch(playwright) as chromium:
            tab = chromium.new_page()
            numbers = {}
            for _ in range(2):
                file.write_text(document(numbers), encoding="utf-8")
                print_pdf(tab, file, pdf)
                numbers = {name: number for name, (number, _) in places_in(pdf).items()}
    except Error as error:
        sys.exit(
            f"No PDF was made: is Chromium or Chrome installed, or CHROMIUM set to it?\n{error}"
        )
    finally:
        file.unlink(missing_ok=True)
    count = finish(pdf, pages, author)
    link_from_pages(html, pdf)
    print(f"The PDF is at {pdf} ({count} pages, {pdf.stat().st_size / 1e6:.1f} MB).")


if __name__ == "__main__":
    main()
