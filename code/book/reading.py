"""A Sphinx extension: how long a page takes, and the ways through the course on which it lies.

A page says in its metadata how it is marked (CONTRIBUTING.md), ``"course": {"optional": true}``;
a chapter has the mark ``whole`` by itself. ``reading_marks`` in ``_config.yml`` has the words for
each mark: they stand in a box under the title, with what the page needs.

The first page begins with the ways, each with the minutes of all that lies on it
(``reading_ways``). Beside a page stands its place on each way (``reading_places``), with links to
the pages before and behind it there: in the order of the book, or by the numbers that pages give.
"""

import json
import re

from docutils import nodes
from sphinx.util import logging

logger = logging.getLogger(__name__)

WORDS, LINES_OF_CODE = 200, 15  # in a minute
UNREAD = {"exercise", "solution", "cell_output", "tag_hide-input", "tag_hide-cell"}


def minutes(node):
    """To read words and visible code once: no formula, no output, no exercise, no solution."""
    if isinstance(node, nodes.Text):
        return len(re.findall(r"[^\W\d_][\w'’-]+", node)) / WORDS
    if isinstance(node, nodes.literal_block):
        return len(re.findall(r"^ *[^\s#]", node.astext(), re.MULTILINE)) / LINES_OF_CODE
    if isinstance(node, nodes.math | nodes.math_block | nodes.Invisible | nodes.raw):
        return 0
    return 0 if UNREAD & {*node["classes"]} else sum(map(minutes, node))


def sections_of(document):
    return {name: part for part in document.findall(nodes.section) for name in part["ids"]}


def measure(app, document):
    """Note down the time of a page and of its sections, and say in the menu what is optional."""
    env = app.env
    page = env.metadata[env.docname]
    parts = {"": document} | sections_of(document)
    page["minutes"] = {name: minutes(part) for name, part in parts.items()}
    page["course"] = json.loads(page.get("course", "{}"))
    if page["course"].get("optional"):
        title = next(env.tocs[env.docname].findall(nodes.reference))
        title += nodes.emphasis("", f" ({app.config.reading_marks['optional']})")


def marks(env, page):
    """The marks of a page, each with the labels of the sections that have it; "" is all of it."""
    chapter = {"whole": True} if env.toc_secnumbers.get(page, {}).get("") else {}
    given = chapter | env.metadata[page]["course"]
    return {
        mark: labels if isinstance(labels, list) else [""]
        for mark, labels in given.items()
        if labels
    }


def time_of(env, page, mark):
    """The minutes of what has a mark on a page."""
    measured = env.metadata[page]["minutes"]
    return sum(measured.get(label, 0) for label in marks(env, page).get(mark, ()))


def separated(facts, text):
    return nodes.Text(" · " * bool(facts.children) + text)


def add_facts(app, document, docname):
    """Begin a page that has marks with a box of them, and of its prerequisites."""
    sections = sections_of(document)
    facts = nodes.paragraph()
    if docname == app.config.root_doc:
        for way, text in app.config.reading_ways.items():
            time = sum(time_of(app.env, page, way) for page in app.env.found_docs)
            facts += separated(facts, text.format(minutes=f"{time:.0f}"))
    for mark, labels in marks(app.env, docname).items():
        try:
            text = app.config.reading_marks[mark]
            titles = [(label, sections[label][0].deepcopy().children) for label in labels if label]
        except KeyError as unknown:
            logger.warning("neither a mark nor a section: %s", unknown, location=docname)
            continue
        time = f"{time_of(app.env, docname, mark):.0f}"
        facts += separated(facts, text.format(minutes=time))
        for number, (label, title) in enumerate(titles):
            facts += nodes.Text(", " if number else " (")
            facts += nodes.reference("", "", *title, refid=label, internal=True)
        facts += nodes.Text(")" * bool(titles))
    if facts.children:
        page = next(document.findall(nodes.title)).parent
        start = app.config.prerequisites_start
        needs = [child for child in page[1:] if child.astext().startswith(start)]
        for paragraph in needs:
            page.remove(paragraph)
        page.insert(1, nodes.container("", facts, *needs, classes=["chapter-facts"]))


def pages_of(env, way):
    """The pages of a way in their order, each with the anchor at which the way enters it."""
    book = env.toctree_includes.get(env.config.root_doc, ())
    labels = {page: found for page in book if (found := marks(env, page).get(way))}
    # A number is a place on the way; a page without one (True, or a list of sections) stays where the book has it.
    place = {page: env.metadata[page]["course"][way] for page in labels}
    order = sorted(labels, key=lambda page: isinstance(place[page], int) and place[page])
    return [(page, f"#{labels[page][0]}".rstrip("#")) for page in order]


def add_places(app, pagename, templatename, context, doctree):
    """Give the template the page's place on each way, and its neighbours there."""
    context["places"] = []
    for way, text in app.config.reading_places.items():
        pages = pages_of(app.env, way)
        at = next((at for at, (page, _) in enumerate(pages) if page == pagename), None)
        if at is not None:
            near = {"prev": pages[at - 1 : at], "next": pages[at + 1 : at + 2]}
            links = [
                (kind, context["pathto"](page) + anchor, app.env.titles[page].astext())
                for kind, found in near.items()
                for page, anchor in found
            ]
            context["places"].append((text.format(place=at + 1, all=len(pages)), links))


def setup(app):
    # Texts that the website adds to those of the notebooks: a translation sets its own.
    app.add_config_value("reading_marks", {}, "env")
    app.add_config_value("reading_ways", {}, "env")
    app.add_config_value("reading_places", {}, "html")
    app.add_config_value("prerequisites_start", "You need:", "html")
    app.connect("doctree-read", measure)
    app.connect("doctree-resolved", add_facts)
    app.connect("html-page-context", add_places)
