"""Make one PDF of the built website, with bookmarks and page numbers, and link it from every page.

All pages become one document, in the order of the table of contents: so a link from a chapter to
another is a link inside the PDF. A headless Chromium prints it, twice: the second time with the page
numbers of the contents.
"""

import argparse
import posixpath
import re
import sys
from html import escape
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import browser
from bs4 import BeautifulSoup
from playwright.sync_api import Error, sync_playwright
from pypdf import PdfReader, PdfWriter

HTML = Path(__file__).parents[2] / "_build" / "html"
# What a reader of paper cannot use, and the code that draws the figures.
DROPPED = "script, button, dialog, a.headerlink, details.hide, .kl2dpo-slider-control"
REFERRING = ("href", "xlink:href", "for", "headers", "aria-labelledby", "aria-describedby")
STYLE = """
@page { size: A4; margin: 20mm 18mm 22mm; @bottom-center { content: counter(page); font: 9pt sans-serif } }
@page :first { @bottom-center { content: none } }
html { font-size: 11pt }
body { display: block; min-height: 0 }
.bd-article { padding: 0 !important; break-before: page }
.bd-article h1:first-of-type { display: block !important; margin-top: 0 }
.book-cover { padding-top: 35vh; text-align: center }
.book-contents { break-before: page }
.book-contents ol { list-style: none; padding-left: 0 }
.book-contents li { display: flex; gap: 1em; justify-content: space-between }
.book-contents p { font-weight: bold; margin: 1em 0 0.3em }
"""


def read(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def contents(html):
    """The pages in order, from the menu of the first page: its captions, and pairs of page and title."""
    root = re.search(r"url=([^\"']+)", (html / "index.html").read_text(encoding="utf-8"))[1]
    listed = []
    for item in read(html / root).select("nav.bd-docs-nav p.caption, nav.bd-docs-nav a"):
        if item.name == "p":
            listed.append((None, item.get_text(strip=True)))
        else:
            href = urldefrag(item["href"])[0]
            page = posixpath.normpath(posixpath.join(posixpath.dirname(root), href)) if href else root
            listed.append((page, item.get_text(" ", strip=True)))
    return listed


def name_of(page, anchor=""):
    """The id in the PDF of a place on a page."""
    name = page.removesuffix(".html").replace("/", "-")
    return f"{name}--{anchor}" if anchor else name


def link(href, page, pages, base_url):
    """Where a link of a page goes in the PDF, or None if it has no place to go."""
    if urlsplit(href).scheme:
        return href
    path, anchor = urldefrag(href)
    target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
    if target in pages:
        return "#" + name_of(target, unquote(anchor))
    return base_url + target + ("#" + anchor if anchor else "") if base_url else None


def article_of(soup, page, pages, base_url):
    """The content of a page, so that it can stand beside that of the others."""
    article = soup.select_one("article.bd-article")
    for element in article.select(DROPPED):
        element.decompose()
    for element in article.find_all(True):
        if element.get("id"):
            element["id"] = name_of(page, element["id"])
        for attribute in REFERRING:
            value = element.get(attribute)
            if not value:
                continue
            if attribute in ("href", "xlink:href"):
                element[attribute] = link(value, page, pages, base_url) or ""
                if not element[attribute]:
                    del element[attribute]
            else:
                names = value if isinstance(value, list) else value.split()
                element[attribute] = " ".join(name_of(page, name) for name in names)
        if element.name == "img":
            del element["loading"]
            if not urlsplit(element["src"]).scheme:
                element["src"] = posixpath.join(posixpath.dirname(page), element["src"])
        # Folded parts are open.
        element["class"] = [c for c in element.get("class", []) if c not in ("dropdown", "toggle")]
        if element.name == "details":
            element["open"] = ""
    article["id"] = name_of(page)
    return article


def styles_of(soup, page):
    """The styles of a page, and the scripts that draw its formulas if there are any."""
    for element in soup.head.select("link[rel=stylesheet], style, script"):
        address = element.get("href") or element.get("src")
        if element.name == "script" and "mathjax" not in (address or element.get_text()).lower():
            continue
        if address and not urlsplit(address).scheme:
            file, query = (address.split("?") + [""])[:2]
            file = posixpath.normpath(posixpath.join(posixpath.dirname(page), file))
            element["href" if element.name == "link" else "src"] = file + (query and "?" + query)
        yield str(element)


def contents_page(listed, numbers):
    """The table of contents, with the numbers of pages where they are known."""
    lines, open_list = [], False
    for page, title in listed:
        if page is None:
            lines.append(f"{'</ol>' if open_list else ''}<p>{escape(title)}</p><ol>")
            open_list = True
        else:
            name = name_of(page)
            lines.append("" if open_list else "<ol>")
            open_list = True
            number = numbers.get(name, "")
            lines.append(f'<li><a href="#{name}">{escape(title)}</a><span>{number}</span></li>')
    return "".join(lines) + "</ol>"


def one_document(html, listed, numbers):
    """The whole book as one page."""
    pages = [page for page, _ in listed if page]
    styles, articles = {}, []
    for page in pages:
        soup = read(html / page)
        canonical = soup.head.select_one("link[rel=canonical]")
        base_url = canonical["href"].removesuffix(page) if canonical else ""
        styles.update(dict.fromkeys(styles_of(soup, page)))
        articles.append(str(article_of(soup, page, pages, base_url)))
    author = soup.select_one(".component-author")
    title, language = listed[0][1], soup.html.get("lang", "en")
    return f"""<!DOCTYPE html>
<html lang="{language}" data-theme="light"><head><meta charset="utf-8"><title>{escape(title)}</title>
{"".join(styles)}<style>{STYLE}</style></head><body>
<section class="book-cover"><p class="h1">{escape(title)}</p><p>{author.get_text(strip=True) if author else ""}</p>
<p>{base_url}</p></section>
<nav class="book-contents"><h1>Contents</h1>{contents_page(listed, numbers)}</nav>
<main class="bd-main"><div class="bd-content"><div class="bd-article-container">{"".join(articles)}</div></div></main>
</body></html>"""


def print_pdf(page, document, output):
    """Let Chromium print a file as a PDF with tags and bookmarks."""
    page.goto(document.as_uri(), wait_until="load")
    page.evaluate("window.MathJax?.startup?.promise")
    page.evaluate("document.fonts.ready")
    page.pdf(path=output, prefer_css_page_size=True, print_background=True, outline=True, tagged=True)


def page_numbers(pdf):
    """The number of the page on which each named place is."""
    reader = PdfReader(pdf)
    places = reader.named_destinations.items()
    return {name.lstrip("/"): reader.get_destination_page_number(place) + 1 for name, place in places}


def finish(pdf, listed, author):
    """Name the author, and let the bookmarks show when the file is opened."""
    writer = PdfWriter(clone_from=pdf)
    writer.page_mode = "/UseOutlines"
    writer.add_metadata({"/Title": listed[0][1], "/Author": author, "/Creator": "", "/Producer": ""})
    writer.write(pdf)
    return len(writer.pages)


def link_from_pages(html, pdf):
    """Show the link that the template has kept a place for."""
    size = f"{pdf.stat().st_size / 1e6:.1f} MB"
    for path in html.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        href = "../" * len(path.relative_to(html).parts[:-1]) + pdf.name
        shown = f'<p id="book-pdf"><a href="{href}">The whole book as PDF ({size})</a></p>'
        linked = re.sub(r'<p id="book-pdf".*?</p>', shown, text, flags=re.DOTALL)
        if linked != text:
            path.write_text(linked, encoding="utf-8")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("html", nargs="?", type=Path, default=HTML, help="the built website")
    html = parser.parse_args(arguments).html.resolve()
    listed = contents(html)
    title = listed[0][1]
    pdf = html / (re.sub(r"\W+", "-", title.lower()).strip("-") + ".pdf")
    document = html / "_whole-book.html"
    try:
        with sync_playwright() as playwright, browser.launch(playwright) as chromium:
            page = chromium.new_page()
            numbers = {}
            for _ in range(2):
                document.write_text(one_document(html, listed, numbers), encoding="utf-8")
                print_pdf(page, document, pdf)
                numbers = page_numbers(pdf)
    except Error as error:
        sys.exit(f"No PDF was made. Install Chromium or Chrome, or set CHROMIUM to it.\n{error}")
    finally:
        document.unlink(missing_ok=True)
    author = read(html / listed[0][0]).head.select_one("meta[name=author]")
    pages = finish(pdf, listed, author["content"] if author else "")
    link_from_pages(html, pdf)
    print(f"{pdf}: {pages} pages, {pdf.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
