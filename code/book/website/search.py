"""What the search page looks in: the sections of all pages, the terms and the functions.

Each has a title, its text without code, and other names: those in its page's metadata (``search``,
see CONTRIBUTING.md), and those of the terms and the named sections that link to it. They are noted
down when a page is read, so that a build of one page has those of all.

MiniSearch lies beside this file, since no Python package has it: files of its npm package as they
are (`npm pack minisearch@7.2.0`). All of it is one script, so that it works in a folder, too.
"""

import json
import re
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

from docutils import nodes
from sphinx import addnodes
from sphinx.util import logging
from sphinx_exercise.nodes import solution_node

from website import formulas

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
SCRIPTS = HERE / "minisearch-7.2.0" / "index.js", HERE / "search.js"

# Code, displayed formulas, solutions, and what is an entry of its own.
UNQUOTED = (
    *(nodes.literal_block, nodes.doctest_block, nodes.math_block, nodes.image, nodes.raw),
    *(nodes.Invisible, nodes.title, solution_node, addnodes.glossary, addnodes.desc),
)
SIGNS = {"msub": "_", "msup": "^", "mfrac": "/"}


def line(formula):
    """MathML in one line of text: π_ref, e^(r/β)."""
    parts = [line(part) for part in formula]
    tag = formula.tag.rpartition("}")[2]
    if tag in SIGNS:
        return SIGNS[tag].join(p if len(p) < 2 or p.isalnum() else f"({p})" for p in parts)
    return "" if tag == "annotation" else (formula.text or "").strip("\u2061") + "".join(parts)


def text(node):
    """What an excerpt can quote."""
    if isinstance(node, nodes.Text):
        return node.astext()
    if isinstance(node, nodes.math):
        return line(ElementTree.fromstring(formulas.render(node.astext(), False)))
    # A reference without words of its own, which is not resolved yet, has a label in their place.
    label = isinstance(node, addnodes.pending_xref) and not node["refexplicit"]
    if isinstance(node, UNQUOTED) or "slug" in node or (label and node["refdomain"] != "py"):
        return ""
    inline = isinstance(node, nodes.TextElement | nodes.Inline)
    return ("" if inline else " ").join(map(text, node))


def parts(document):
    """Sections, terms and functions: kind, identifiers, title, and the nodes of the text."""
    kind = "function" if [*document.findall(addnodes.desc)] else "section"
    for node in document.findall(nodes.section):
        if "slug" in node:
            ids = [""] if node.parent is document else [*node["ids"], node["slug"]]
            yield kind, ids, node[0].astext(), node[1:]
    for node in document.findall(addnodes.glossary):
        for *terms, definition in node.findall(nodes.definition_list_item):
            ids = [name for term in terms for name in term["ids"]]
            yield "term", ids, " ".join(term.astext() for term in terms), definition.children
    for signature, *content in document.findall(addnodes.desc):
        if signature["ids"]:
            yield "function", signature["ids"], signature["fullname"], content


def note(app, document):
    """Note down the entries of a page, and what the terms and the named sections link to."""
    page = app.env.metadata[app.env.docname]
    given = json.loads(page.get("search", "{}"))
    page["entries"] = []
    for kind, ids, title, content in parts(document):
        names = [name for anchor in ids for name in given.pop(anchor, ())]
        links = [link for node in content for link in node.findall(addnodes.pending_xref)]
        links = [(link["reftarget"], link.get("reftargetid")) for link in links]
        words = " ".join(" ".join(map(text, content)).split())
        words = re.sub(r" (?=[.,;:)])", "", words)  # where a citation was
        lent = links if names or kind == "term" else []
        page["entries"].append((kind, ids, title, words, names, lent))
    for anchor in given:
        logger.warning("nothing to search for: %s", anchor, location=app.env.docname)


def finish(app, exception):
    """Write the script of the search page: MiniSearch, the entries, and search.js."""
    if exception or app.builder.format != "html":
        return
    env = app.env
    numbers = {page: env.toc_secnumbers.get(page, {}).get("", ()) for page in env.found_docs}
    noted = sorted((page, *entry) for page in numbers for entry in env.metadata[page]["entries"])
    lent = defaultdict(list)
    for page, _kind, _ids, title, _words, names, links in noted:
        for target, anchor in () if numbers[page] else links:
            lent[target, "" if anchor is True else anchor] += [title, *names]
    entries = [
        {
            "address": app.builder.get_target_uri(page) + f"#{ids[0]}".rstrip("#"),
            "kind": "chapter" if numbers[page] else kind,
            "page": "".join(f"{n}. " for n in numbers[page]) + env.titles[page].astext(),
            "title": title,
            "names": [*dict.fromkeys([*names, *(name for i in ids for name in lent[page, i])])],
            "text": words,
        }
        for page, kind, ids, title, words, names, _links in noted
    ]
    library, own = (path.read_text(encoding="utf-8") for path in SCRIPTS)
    script = f"{library}\nconst ENTRIES = {json.dumps(entries, ensure_ascii=False)};\n{own}"
    (Path(app.outdir) / "_static" / "search.js").write_text(script, encoding="utf-8")


def without_that_of_sphinx(app):
    app.builder.search = False


def setup(app):
    app.connect("builder-inited", without_that_of_sphinx)
    app.connect("doctree-read", note)
    app.connect("build-finished", finish)
