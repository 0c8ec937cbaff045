"""Make one PDF of the built website, with bookmarks and page numbers, and link it from every page.

All pages become one document, in the order of the menu, so that a link from a chapter to another
is a link inside the PDF. A headless Chromium prints it.

python code/book/tools/make_pdf.py [SITE]      (default: _build/html)
"""

import re
import sys
from html import escape
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import browser
from bs4 import BeautifulSoup
from playwright.sync_api import Error, sync_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, DictionaryObject, Fit, NameObject

HTML = Path(__file__).parents[3] / "_build" / "html"
# What a reader of paper cannot use, and the code that draws the figures.
DROPPED = "script, button, dialog, a.headerlink, details.hide, .live-controls, .live-heard"


def read(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def text_of(element):
    return " ".join(element.get_text().split())


def read_menu(html):
    """The pages of the book, from the menu: path, title, and the part that it begins."""
    part = ""
    for item in read(html / "search.html").select("nav.bd-docs-nav p.caption, nav.bd-docs-nav a"):
        if item.name == "a":
            yield item["href"], text_of(item), part
        part = text_of(item) if item.name == "p" else ""


def name_of(path, anchor=""):
    """The id that a page, or a place on it, has in the PDF."""
    name = path.removesuffix(".html").replace("/", "-")
    return f"{name}--{anchor}" if anchor else name


def link(href, page, paths, base_url):
    """Where a link of a page goes in the PDF, or nowhere."""
    path, anchor = urldefrag(urljoin(page, href))
    if path in paths:
        return "#" + name_of(path, unquote(anchor))
    target = urljoin(base_url, urljoin(page, href))
    return target if urlsplit(target).scheme else None


def prepare(article, page, paths, base_url):
    """Change the content of a page so that it can stand beside that of the others."""
    for element in article.select(DROPPED):
        element.decompose()
    # A drawing refers to its own parts, and nothing else does.
    for element in article.select("[id]:not(svg *)"):
        element["id"] = name_of(page, element["id"])
    for element in article.select("a[href]"):
        target = link(element.attrs.pop("href"), page, paths, base_url)
        element.attrs |= {"href": target} if target else {}
    for element in article.select("img"):
        del element["loading"]
        element["src"] = urljoin(page, element["src"])
    for element in article.select("details"):
        element["open"] = ""
    # Tags around what join_tags takes out of its own.
    for role, parts in ("code", "pre"), ("paragraph", "div.math"):
        for element in article.select(parts):
            element["role"] = role
    article["id"] = name_of(page)


def take_solutions(article):
    """Take the solutions out of a page, where they would be read too early; links lead to and fro."""
    taken = []
    for solution in article.select(".solution"):
        place, title = solution.section["id"], escape(text_of(solution.summary))
        back = f'<a href="#{place}-from">{title}</a>'
        solution.summary.string.replace_with(BeautifulSoup(back, "html.parser"))
        taken.append(str(solution))
        there = f'<p id="{place}-from"><a href="#{place}">{title}</a></p>'
        solution.replace_with(BeautifulSoup(there, "html.parser"))
    return "".join(taken)


def one_document(html):
    """The whole book as one page of HTML, and its headings: their level, name and text."""
    menu = [*read_menu(html)]
    paths = {path for path, _, _ in menu}
    headings, body, solutions = [], [], []
    for path, title, part in menu:
        soup = read(html / path)
        canonical = soup.head.select_one("link[rel=canonical]")
        base_url = canonical["href"].removesuffix(path) if canonical else ""
        article = soup.select_one("article.bd-article")
        prepare(article, path, paths, base_url)
        if taken := take_solutions(article):
            solutions.append(f"<section><h2>{escape(title)}</h2>{taken}</section>")
        body.append(str(article))
        headings += [(0, name_of(path), part)] if part else []
        headings.append((1, name_of(path), title))
        for heading in article.select("section > h2"):
            headings.append((2, heading.parent["id"], text_of(heading)))
    if solutions:
        headings.append((0, "solutions", "Solutions"))
        appendix = f'<section id="solutions"><h1>Solutions</h1>{"".join(solutions)}</section>'
        body.append(f'<article class="bd-article">{appendix}</article>')
    title, author = headings[0][2], soup.head.select_one("meta[name=author]")["content"]
    style = Path(__file__).with_name("pdf.css").read_text(encoding="utf-8")
    entry = '<p class="level-{}"><a href="#{}">{}</a></p>'
    contents = "".join(entry.format(level, name, escape(text)) for level, name, text in headings)
    document = f"""<!DOCTYPE html>
<html lang="{soup.html["lang"]}" data-theme="light">
<head><meta charset="utf-8"><title>{escape(title)}</title>
<link rel="stylesheet" href="_static/site.css"><style>{style}</style></head>
<body><header class="book-cover"><p class="title">{escape(title)}</p><p>{escape(author)}</p>
<p>{escape(base_url)}</p></header>
<nav class="book-contents"><h1>Contents</h1>{contents}</nav>
<main class="bd-main"><div class="bd-content"><div class="bd-article-container">
{"".join(body)}
</div></div></main></body></html>"""
    return document, headings


def join_tags(root):
    """Put what is in a tag without a meaning into the one around it.

    Chromium tags each sign of a formula and each word of code, with what PDF calls NonStruct: two
    thirds of the file. What a screen reader reads, and in which order, stays the same.
    """
    tree = root["/StructTreeRoot"]
    page, outer = NameObject("/Pg"), {}

    def contents(tag, reference):
        """What the tag takes over. A number means a place of its page."""
        kids = tag.get("/K", ())
        for kid in kids if isinstance(kids, list) else [tag.raw_get("/K")]:
            part = kid.get_object()
            if isinstance(part, int):
                yield tag.raw_get("/Pg"), part
            elif part.get("/S") == "/NonStruct":
                outer[kid.idnum] = reference
                yield from contents(part, reference)
            else:
                if "/S" in part:
                    part[NameObject("/P")] = reference
                    join(kid)
                yield None, kid

    def join(reference):
        tag, kids = reference.get_object(), ArrayObject()
        for place, kid in contents(tag, reference):
            if place and tag.setdefault(page, place) != place:
                elsewhere = {NameObject("/Type"): NameObject("/MCR"), page: place}
                kid = DictionaryObject(elsewhere | {NameObject("/MCID"): kid})
            kids.append(kid)
        tag[NameObject("/K")] = kids

    join(tree.raw_get("/K"))
    # The way back, from all that a page has, and from a link.
    numbers = tree["/ParentTree"]["/Nums"]
    for place, reference in enumerate(numbers[1::2]):
        if isinstance(tags := reference.get_object(), list):
            tags[:] = [outer.get(tag.idnum, tag) for tag in tags]
        else:
            numbers[2 * place + 1] = outer.get(reference.idnum, reference)


def add_bookmarks(pdf, headings):
    """Show them when the file is opened. Chromium's own repeat a heading on top of a page."""
    reader = PdfReader(pdf)
    join_tags(reader.root_object)
    writer = PdfWriter(clone_from=reader)
    above = {}
    for level, name, text in headings:
        place = writer.named_destinations[f"/{name}"]
        page, fit = writer.get_destination_page_number(place), Fit.xyz(top=place.top)
        options = {"parent": above.get(level - 1), "fit": fit, "is_open": level == 0}
        above[level] = writer.add_outline_item(title=text, page_number=page, **options)
    writer.page_mode = "/UseOutlines"
    writer.write(pdf)


def link_from_pages(html, pdf):
    """Show the link that the template has kept a place for."""
    text = f"The whole book as PDF ({pdf.stat().st_size / 1e6:.1f} MB)"
    for path in html.rglob("*.html"):
        href = "../" * (len(path.relative_to(html).parts) - 1) + pdf.name
        shown = f'<nav id="book-pdf" aria-label="PDF"><a href="{href}">{text}</a></nav>'
        page = path.read_text(encoding="utf-8")
        page = re.sub(r'<nav id="book-pdf".*?</nav>', shown, page, flags=re.DOTALL)
        path.write_text(page, encoding="utf-8")


def main(site=HTML):
    html = Path(site).resolve()
    document, headings = one_document(html)
    pdf = html / (re.sub(r"\W+", "-", headings[0][2].lower()).strip("-") + ".pdf")
    # Beside the pages, so that their styles and pictures are found.
    file = html / "whole-book.html"
    try:
        with sync_playwright() as playwright, browser.launch(playwright) as chromium:
            tab = chromium.new_page()
            file.write_text(document, encoding="utf-8")
            tab.goto(file.as_uri(), timeout=300_000)
            tab.evaluate("document.fonts.ready")
            # With tags, which tell a screen reader its structure.
            tab.pdf(path=pdf, prefer_css_page_size=True, print_background=True, tagged=True)
    except Error as error:
        advice = "is Chromium or Chrome installed, or CHROMIUM set to it?"
        sys.exit(f"No PDF was made: {advice}\n{error}")
    finally:
        file.unlink(missing_ok=True)
    add_bookmarks(pdf, headings)
    link_from_pages(html, pdf)
    print(f"The PDF is at {pdf} ({pdf.stat().st_size / 1e6:.1f} MB).")


if __name__ == "__main__":
    main(*sys.argv[1:])
