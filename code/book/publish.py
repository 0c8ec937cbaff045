"""A Sphinx extension: what the website knows about the place where it is published.

Its links to the repository and to Binder lead to where it was built: the workflow's variables say
where that is, or ``repository:`` in ``_config.yml``; where neither does, those buttons are left
out. The address of the website is known to the workflow that publishes it, or given in the variable
``BOOK_BASE_URL``; with it come social cards, a canonical address and ``sitemap.xml``.

The rest is permalinks for exercises and theorems, and a page for addresses that do not exist.
"""

import os
import re
from html import escape
from pathlib import Path
from urllib.parse import quote

from docutils import nodes
from website.changes import change, expected, met

GITHUB = "https://github.com"
BINDER = "https://mybinder.org"
NOT_FOUND = "404"


# --- the repository and the address -------------------------------------------------------------


def theme_options(options, environ=os.environ):
    """The options of the theme for the buttons above a page; ``options`` has what is configured."""
    url = options.get("repository_url", "").rstrip("/")
    branch = options.get("repository_branch", "HEAD")
    if name := environ.get("GITHUB_REPOSITORY"):
        url = f"{environ.get('GITHUB_SERVER_URL', GITHUB)}/{name}"
        branch = environ.get("GITHUB_BASE_REF")  # of a pull request, which has none to be edited
        if not branch and environ.get("GITHUB_REF_TYPE") == "branch":
            branch = environ.get("GITHUB_REF_NAME")
    buttons = ("repository", "source", "edit_page", "issues")
    binder = BINDER if url.startswith(f"{GITHUB}/") else ""
    return dict.fromkeys((f"use_{button}_button" for button in buttons), bool(url)) | {
        "repository_url": url,
        "repository_provider": "github",
        "repository_branch": quote(branch or "HEAD"),
        "launch_buttons": {"binderhub_url": binder, "notebook_interface": "jupyterlab"},
    }


ADDRESS = re.compile(r"(?i)https?://(?:[\w.-]+|\[[\da-f:.]+\])(?::\d+)?(?:/[^\s?#@\"<>\\]*)?")


def find_base_url(environ=os.environ):
    """The address of the published website with a slash at its end, or "" if it is not known."""
    if given := environ.get("BOOK_BASE_URL"):
        if not ADDRESS.fullmatch(given):
            raise ValueError("BOOK_BASE_URL must be like https://example.org/a/, without @, ? or #")
        return given.rstrip("/") + "/"
    published = environ.get("GITHUB_ACTIONS") and environ.get("GITHUB_SERVER_URL") == GITHUB
    owner, _, name = environ.get("GITHUB_REPOSITORY", "").partition("/")
    if not published or not name:
        return ""
    host = f"{owner.lower()}.github.io"
    return f"https://{host}/" if name.lower() == host else f"https://{host}/{name}/"


def configure(app, config):
    """Give the theme and the other extensions what they need to know."""
    config.html_theme_options.update(theme_options(config.html_theme_options))
    config.html_baseurl = find_base_url()
    if config.html_baseurl:
        # Only here: social tags need an address, and a map fails without one.
        app.setup_extension("sphinxext.opengraph")
        config.ogp_site_url, config.ogp_site_name = config.html_baseurl, config.html_title
        config.ogp_image, config.ogp_image_alt = "_static/preview.png", config.preview_alt
        config.ogp_custom_meta_tags = ['<meta name="twitter:card" content="summary_large_image" />']
        app.setup_extension("sphinx_sitemap")
        config.sitemap_url_scheme = "{link}"
        config.sitemap_excludes = ["search.html", "_modules/*", f"{NOT_FOUND}.html"]


# --- pages ---------------------------------------------------------------------------------------

TITLE_OF_BOX = expected(
    r'(<div class="(?:proof )?([\w-]+) admonition[^"]*" id="([^"]+)">\s*'
    r'<p class="admonition-title">)(.*?)(</p>)'
)

# The title of a solution is what folds it: without the link to the exercise, which stands above. The
# place of a solution is inside the fold, which a link to it then opens.
SOLUTION = expected(
    r'(<details class="solution[^>]*?)( id="[^"]*")>\s*<p( class="admonition-title">[^<]*?)\s*'
    r'<a[^>]*>\s*([^<]*)</a></p>\s*<section id="solution-content">'
)


def add_permalinks(body, icon, name):
    """Give the exercises and theorems of a page the link that its headings have."""

    def with_link(match):
        start, kind, anchor, title, end = match.groups()
        called = escape(name.format(kind=kind))
        link = f'<a class="headerlink" href="#{anchor}" title="{called}">{icon}</a>'
        return f"{start}{title}{link}{end}"

    body = change(SOLUTION, r"\1>\n<summary\3 \4</summary>\n<section\2>", body)
    return change(TITLE_OF_BOX, with_link, body)


def describe(app, pagename, templatename, context, doctree):
    """Leave of a written page its description: of that, social tags are made."""
    for meta in list(doctree.findall(nodes.meta)) if doctree else ():
        if meta.get("name") == "description":
            doctree[:] = [nodes.paragraph("", meta["content"])]


def finish_page(app, pagename, templatename, context, doctree):
    """The last changes to what the template of a page gets."""
    base_url = app.config.html_baseurl
    if context.get("body"):
        icon, name = app.config.html_permalinks_icon, app.config.permalink_name
        context["body"] = add_permalinks(context["body"], icon, name)
    tags = f'\n<meta name="author" content="{escape(app.config.author)}" />'
    if pagename not in app.env.found_docs:
        # The search, an index: nothing to be found by a search engine.
        tags += '\n<meta name="robots" content="noindex" />'
    context["metatags"] = context.get("metatags", "") + tags
    if pagename == NOT_FOUND and base_url:
        # The page is shown at every address that does not exist, however deep.
        base = f'<base href="{escape(base_url)}{NOT_FOUND}.html" />\n'
        context["metatags"] = base + context["metatags"]
        context["pageurl"] = None


TOLD = expected(
    r'<title>.*?</title>|<meta[^>]*="(?:description|og:|twitter:).*?>|<link[^>]*="canonical".*?>'
)


def write_root(app, exception):
    """What is at the bare address: a way to the first page, and what is known of it."""
    if exception or app.builder.format != "html":
        return
    base_url, home = app.config.html_baseurl, f"{app.config.root_doc}.html"
    told = re.findall(TOLD, Path(app.outdir, home).read_text(encoding="utf-8"), re.DOTALL)
    met[TOLD] += len(told)
    root = (
        f'<!DOCTYPE html>\n<html lang="{app.config.language}">\n<head>\n<meta charset="utf-8">\n'
        + "\n".join([*told, f'<meta http-equiv="refresh" content="0; url={home}">'])
        + f'\n</head>\n<body><a href="{home}">{escape(app.config.html_title)}</a></body>\n</html>\n'
    )
    Path(app.outdir, "index.html").write_text(root, encoding="utf-8")
    if base_url:
        text = f"User-agent: *\nAllow: /\nSitemap: {base_url}sitemap.xml\n"
        Path(app.outdir, "robots.txt").write_text(text, encoding="utf-8")


def setup(app):
    # Text that the website adds to that of the notebooks: a translation sets its own.
    app.add_config_value("permalink_name", "Link to this {kind}", "html")
    app.add_config_value(
        "preview_alt", "The DPO loss, and the triangle of policies on three answers", "html"
    )
    app.connect("config-inited", configure)
    # Before and after the extension for social cards, which has the default 500.
    app.connect("html-page-context", describe, priority=400)
    app.connect("html-page-context", finish_page, priority=900)
    app.connect("build-finished", write_root)
