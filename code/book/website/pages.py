"""The step after the build: pages that ask for little and show it at once.

- one style sheet instead of a dozen (styles.py), and scripts that wait for the first paint
- only the scripts that a page needs
- less markup in code
- entries of the list of sources that a screen reader takes for entries of a list
- pictures with their size, so that nothing moves, and fetched when the reader comes near
- the script of the live figures once
"""

import hashlib
import re
from pathlib import Path

import imagesize

from website import styles
from website.changes import change, expected, met

STATIC = "_static"
SHEET = "site.css"

TAG = re.compile(r"<(?:link|meta|img)\b[^>]*>\s*|<script\b[^>]*\bsrc=[^>]*></script>\s*")
ROOT = re.compile(r'<html\b[^>]*\bdata-content_root="([^"]*)"')
ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')

# Names, signs and space in code: a third of the boxes of a chapter, in the colour of the text.
PLAIN = expected(r'<span class="(?:n|nn|p|w)">([^<]*)</span>')

# The same identifier in every exercise and unnamed proof of a page: no link can mean one of them.
REPEATED = expected(r' id="(?:(?:exercise|proof)-content|proof)"')

# Sphinx gives an entry of a list of sources a role that is deprecated, and none for a list.
SOURCE = expected('role="doc-biblioentry"')

# A live figure brings its styles and its script along, for notebooks; here they come once a page.
LIVE = expected(
    r'<style>[^<]*</style><script>(?:(?!</script>).)*</script>\s*(?=<div class="kl2dpo-live")'
)

# Names that hide what one sees: of a fold, of the theme's button for the search. And a sign that is read out.
NAMED = expected(
    r'(<(?:summary|button class="[^"]*\bsearch-button-field\b[^>]*)) aria-label="[^"]*"'
)
ICON = expected(r'<i (?!aria-hidden)(?=class="fa)')

# Without scripts no rule would match the mode that is chosen by one.
THEME = expected(r'(<html[^>]* data-theme=)"auto"')

# The end of a script's name, and what a page that needs it has in it.
NEEDED = {
    expected("/fontawesome.js"): None,  # draws 2000 icons; the font has the ten in use
    expected("/searchtools.js"): None,  # a search by pages, not by sections
    expected("/language_data.js"): None,
    expected("searchindex.js"): None,
    expected("/sphinx_highlight.js"): None,  # colours each word of the query everywhere
    expected("/clipboard.min.js"): 'class="highlight"',
    expected("/copybutton.js"): 'class="highlight"',
    expected("/design-tabs.js"): "sd-tab-set",
    expected("/live.js"): 'class="kl2dpo-live"',
}
# Its lines are used at once by the scripts below it, and shorter than a request for it.
INLINED = expected("/documentation_options.js")
PRELOADED = expected('rel="preload"')
# What the theme's script makes tab stops, and lays out all of the page for; instead of it, static/tabstops.js.
TAB_STOPS = expected(r'\["pre"(?:,"[^"]*")*\]\.join\(", "\)')


def finish(app, exception):
    if exception or app.builder.format != "html":
        return
    out = Path(app.outdir)
    static = (out / STATIC).resolve()
    # No page links the list of modules, and its nested lists are none for a screen reader.
    (out / "_modules" / "index.html").unlink(missing_ok=True)
    pages = {path: path.read_text(encoding="utf-8") for path in out.rglob("*.html")}
    # Neither redirections nor the theme's templates in the static folder.
    pages = {path: page for path, page in pages.items() if ROOT.search(page)}
    sheets, scripts = {}, {}  # in the order of the pages
    pages = {path: tuned(page, path.parent, sheets, scripts) for path, page in pages.items()}
    sheets.pop(static / SHEET, None)
    if not sheets:
        return  # no page was written anew
    theme = static / "scripts" / "pydata-sphinx-theme.js"
    script = change(TAB_STOPS, '"#none"', theme.read_text(encoding="utf-8"))
    theme.write_text(script, encoding="utf-8")
    known = styles.words(pages.values(), (path.read_text(encoding="utf-8") for path in scripts))
    css = styles.bundle(sheets, known, pages.values(), static)
    (static / SHEET).write_text(css, encoding="utf-8")
    version = hashlib.sha256(css.encode()).hexdigest()[:8]
    for path, page in pages.items():
        page = re.sub(rf"({STATIC}/{re.escape(SHEET)})\?v=\w*", rf"\1?v={version}", page)
        path.write_text(page, encoding="utf-8")


def tuned(page, folder, sheets, scripts):
    """The page with one style sheet, late scripts, sized pictures; tuned again, it is the same.

    The files of styles and scripts that it asks for are noted down in `sheets` and `scripts`.
    """
    root = ROOT.search(page)[1]
    sheet = f'<link rel="stylesheet" href="{root}{STATIC}/{SHEET}?v=" />\n'
    seen = set()

    def tune(match):
        tag = match[0]
        attributes = dict(ATTRIBUTE.findall(tag))
        if attributes.get("rel") == "stylesheet":
            sheets[file(attributes["href"])] = None
            return once("stylesheet", sheet)
        if attributes.get("rel") == "preload":
            met[PRELOADED] += 1
            return ""
        if attributes.get("name") == "viewport":
            return once("viewport", tag)
        if tag.startswith("<script"):
            return script(attributes.get("src") or attributes["data-src"])
        if tag.startswith("<img"):
            return picture(tag, attributes)
        return tag

    def once(kind, text):
        first = kind not in seen
        seen.add(kind)
        return text if first else ""

    def file(address):
        return (folder / address.partition("?")[0]).resolve()

    def script(src):
        path = file(src)
        for end, mark in NEEDED.items():
            if path.as_posix().endswith(end):
                met[end] += 1
                if mark is None or mark not in page:
                    return ""
        if path.as_posix().endswith(INLINED):
            met[INLINED] += 1
            return f"<script>{path.read_text(encoding='utf-8')}</script>\n"
        scripts[path] = None
        return f'<script data-src="{src}"></script>\n'  # early.js asks for it after the first paint

    def picture(tag, attributes):
        if "width" in attributes or "_images/" not in attributes["src"]:
            return tag
        width, height = imagesize.get(folder / attributes["src"])
        size = f'<img width="{width:.0f}" height="{height:.0f}"'
        # The first one may be what the reader sees first.
        size = once("picture", size) or f'{size} loading="lazy"'
        return tag.replace("<img", size, 1)

    page = change(PLAIN, r"\1", TAG.sub(tune, page))
    page = change(LIVE, "", change(SOURCE, 'role="listitem"', change(REPEATED, "", page)))
    page = change(ICON, '<i aria-hidden="true" ', change(NAMED, r"\1", page))
    return change(THEME, r'\1"light"', page)


def setup(app):
    app.connect("build-finished", finish, priority=900)
