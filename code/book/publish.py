"""A Sphinx extension: what the website knows about the place where it is published.

Nothing of it is written by hand. The repository is the one that this copy comes from, so every
fork links to itself and launches itself on Binder; where it is not known, those buttons are left
out. The address of the website is known to the workflow that publishes it, or given in the variable
``BOOK_BASE_URL``; with it come social cards, a canonical address and ``sitemap.xml``.

The rest is a line under the title of each chapter (how long, and what it needs), permalinks for
exercises and theorems, and a page for addresses that do not exist.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote, urlsplit

from docutils import nodes
from sphinxext import opengraph

GITHUB = "https://github.com"
BINDER = "https://mybinder.org"
NOT_FOUND = "404"
FORMULA = "\ufffc"


# --- the repository and the address -------------------------------------------------------------


@dataclass(frozen=True)
class Repository:
    """Where the sources of this copy are, on a server that works as GitHub does."""

    server: str
    name: str
    branch: str
    folder: str = ""

    @property
    def url(self):
        return f"{self.server}/{self.name}"


REMOTE = re.compile(
    r"(?:(?:https?|ssh|git)://)?(?:[^/]*@)?(?:www\.|ssh\.)?github\.com(?::\d+/|[:/])/?"
    r"([\w.-]+)/([\w.-]+?)(?:\.git)?/?",
    re.IGNORECASE | re.ASCII,
)


def name_on_github(remote):
    """``owner/name`` from the address of a git remote, or None if it is not on GitHub.

    Whatever else stands in the address, a password for example, is dropped.
    """
    match = REMOTE.fullmatch(remote.strip())
    return f"{match[1]}/{match[2]}" if match else None


def git(folder, *arguments):
    """What git prints, or nothing where it fails or is not installed."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def find_repository(folder, environ=os.environ):
    """The repository of the book in ``folder``, or None if it is not known."""
    # A copy without a repository of its own may lie inside somebody else's.
    tracked = git(folder, "ls-files", "--full-name", "_config.yml")
    below = tracked.removesuffix("_config.yml").strip("/")
    server, name = environ.get("GITHUB_SERVER_URL"), environ.get("GITHUB_REPOSITORY")
    if server and name:
        branch = environ.get("GITHUB_BASE_REF")
        if not branch and environ.get("GITHUB_REF_TYPE") == "branch":
            branch = environ.get("GITHUB_REF_NAME")
        return Repository(server.rstrip("/"), name, branch or "HEAD", below)
    name = name_on_github(git(folder, "config", "--get", "remote.origin.url")) if tracked else None
    if not name:
        return None
    default = git(folder, "symbolic-ref", "--short", "refs/remotes/origin/HEAD")
    branch = default.removeprefix("origin/") or git(folder, "symbolic-ref", "--short", "HEAD")
    return Repository(GITHUB, name, branch or "HEAD", below)


def find_base_url(environ=os.environ):
    """The address of the published website with a slash at its end, or "" if it is not known."""
    given = environ.get("BOOK_BASE_URL", "")
    if given:
        parts = urlsplit(given)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ValueError("BOOK_BASE_URL must be like https://example.org/book/")
        return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/"
    published = environ.get("GITHUB_ACTIONS") and environ.get("GITHUB_SERVER_URL") == GITHUB
    owner, _, name = environ.get("GITHUB_REPOSITORY", "").partition("/")
    if not published or not name:
        return ""
    host = f"{owner.lower()}.github.io"
    return f"https://{host}/" if name.lower() == host else f"https://{host}/{name}/"


def theme_options(repository):
    """The options of the theme for the buttons above a page."""
    known = repository is not None
    options = {
        f"use_{button}_button": known for button in ("repository", "source", "edit_page", "issues")
    }
    if not known:
        return {**options, "repository_url": "", "launch_buttons": {}}
    on_binder = repository.server == GITHUB
    return {
        **options,
        "repository_url": repository.url,
        "repository_provider": "github",
        "repository_branch": quote(repository.branch),
        "path_to_docs": repository.folder,
        "launch_buttons": {
            "binderhub_url": BINDER if on_binder else "",
            "notebook_interface": "jupyterlab",
        },
    }


def configure(app, config):
    """Give the theme and the other extensions what they need to know."""
    config.html_theme_options = {
        **config.html_theme_options,
        **theme_options(find_repository(app.srcdir)),
    }
    base_url = find_base_url()
    config.html_baseurl = config.ogp_site_url = base_url
    config.ogp_social_cards = {**(config.ogp_social_cards or {}), "enable": bool(base_url)}
    config.templates_path.append(str(Path(__file__).parent / "templates"))
    if base_url:
        # Only here, because it fails where no address is known.
        app.setup_extension("sphinx_sitemap")
        config.sitemap_url_scheme = "{link}"
        config.sitemap_excludes = ["search.html", "genindex.html", "prf-prf.html", "_modules/*"]
        config.sitemap_excludes += [f"{NOT_FOUND}.html"]


# --- under the title of a chapter: how long it takes, and what it needs -------------------------

SECONDS_A_WORD = 60 / 200
SECONDS_A_FORMULA = {nodes.math: 1.5, nodes.math_block: 10}
SECONDS_A_LINE_OF_CODE = 3
SECONDS_A_FIGURE = 15


def reading_minutes(document):
    """Minutes to read a page once, without its exercises, to the nearest five."""
    seconds = 0.0
    for node in walk(document):
        if type(node) in SECONDS_A_FORMULA:
            seconds += SECONDS_A_FORMULA[type(node)]
        elif isinstance(node, nodes.literal_block):
            seconds += SECONDS_A_LINE_OF_CODE * len(node.astext().split("\n"))
        elif isinstance(node, nodes.image):
            seconds += SECONDS_A_FIGURE
        elif isinstance(node, nodes.Text):
            seconds += SECONDS_A_WORD * len(node.split())
    return max(5, 5 * round(seconds / 300))


def walk(node):
    """The nodes that a reader reads: no exercise, no solution, no folded code and no output."""
    classes = set(node.get("classes", ())) if isinstance(node, nodes.Element) else set()
    if classes & {"exercise", "solution", "cell_output"}:
        pictures = node.findall(nodes.image) if "cell_output" in classes else ()
        yield from pictures
        return
    if isinstance(node, nodes.Invisible | nodes.raw):
        return
    yield node
    if isinstance(node, nodes.literal_block | nodes.math | nodes.math_block):
        return
    for child in node.children:
        folded = "cell_input" in getattr(child, "attributes", {}).get("classes", ())
        if not (folded and "tag_hide-input" in classes):
            yield from walk(child)


def add_facts(app, document, docname):
    """Begin each numbered chapter with its reading time and its prerequisites, in one line."""
    if not app.env.toc_secnumbers.get(docname, {}).get(""):
        return
    title = next(document.findall(nodes.title))
    section = title.parent
    time = app.config.reading_time_text.format(minutes=reading_minutes(document))
    needs = [
        child
        for child in section.children
        if isinstance(child, nodes.paragraph)
        and child.astext().startswith(app.config.prerequisites_start)
    ]
    facts = nodes.paragraph("", "", nodes.strong(time, time), classes=["chapter-facts"])
    for paragraph in needs[:1]:
        section.remove(paragraph)
        facts += [nodes.Text(" "), *paragraph.children]
    section.insert(section.index(title) + 1, facts)


# --- the description of a page for search engines and social media -------------------------------


def describe(document, length):
    """The first sentences of a page in at most ``length`` characters, without any LaTeX."""
    section = next(document.findall(nodes.section), document)
    description = ""
    for paragraph in section.children:
        if not isinstance(paragraph, nodes.paragraph) or "chapter-facts" in paragraph["classes"]:
            continue
        for sentence in re.findall(r"\S.*?[.!?](?= |$)", plain_text(paragraph)):
            if FORMULA not in sentence and len(description) + len(sentence) < length:
                description = f"{description} {sentence}".strip()
            elif description:
                return escape(description, quote=False)
    return escape(description, quote=False)


def plain_text(paragraph):
    """The text of a paragraph: no citation, and a sign in the place of each LaTeX formula."""
    copy = paragraph.deepcopy()
    for formula in list(copy.findall(nodes.math)):
        if re.search(r"[\\^_{]", formula.astext()):
            formula.replace_self(nodes.Text(FORMULA))
    for inline in list(copy.findall(nodes.inline)):
        if "bibtex-citation" in inline["classes"]:
            inline.parent.remove(inline)
    # The font of the cards has no Chinese.
    text = re.sub(r"\([^()]*[\u2e80-\uffef][^()]*\)", "", copy.astext())
    return re.sub(r" ([.,:;])", r"\1", " ".join(text.split()))


# --- pages ---------------------------------------------------------------------------------------

TITLE_OF_BOX = re.compile(
    r'(<div class="(?:proof )?([\w-]+) admonition[^"]*" id="([^"]+)">\s*'
    r'<p class="admonition-title">)(.*?)(</p>)',
    re.DOTALL,
)


def add_permalinks(body, icon, name):
    """Give the exercises and theorems of a page the link that its headings have."""

    def with_link(match):
        start, kind, anchor, title, end = match.groups()
        called = escape(name.format(kind=kind))
        link = f'<a class="headerlink" href="#{anchor}" title="{called}">{icon}</a>'
        return f"{start}{title}{link}{end}"

    return TITLE_OF_BOX.sub(with_link, body)


def finish_page(app, pagename, templatename, context, doctree):
    """The last changes to what the template of a page gets."""
    base_url = app.config.html_baseurl
    if context.get("body"):
        icon, name = app.config.html_permalinks_icon, app.config.permalink_name
        context["body"] = add_permalinks(context["body"], icon, name)
    tags = context.get("metatags", "")
    if not base_url:
        # An address in a social tag must be absolute.
        tags = re.sub(r'<meta property="og:url"[^>]*>\s*', "", tags)
    tags += f'\n<meta name="author" content="{escape(app.config.author)}" />'
    if pagename not in app.env.found_docs:
        # The search, an index: nothing to be found by a search engine.
        tags += '\n<meta name="robots" content="noindex" />'
    if pagename == NOT_FOUND:
        context["title"] = app.config.not_found_title
    if pagename == NOT_FOUND and base_url:
        # The page is shown at every address that does not exist, however deep.
        tags = f'<base href="{escape(base_url)}{NOT_FOUND}.html" />\n' + tags
        context["pageurl"] = None
    context["metatags"] = tags


def write_robots(app, exception):
    """Tell search engines where the map is."""
    base_url = app.config.html_baseurl
    if exception is None and base_url and app.builder.format == "html":
        text = f"User-agent: *\nAllow: /\nSitemap: {base_url}sitemap.xml\n"
        Path(app.outdir, "robots.txt").write_text(text, encoding="utf-8")


def setup(app):
    # Texts that the website adds to those of the notebooks: a translation sets its own.
    app.add_config_value("reading_time_text", "Reading time: about {minutes} minutes.", "html")
    app.add_config_value("prerequisites_start", "You need:", "html")
    app.add_config_value("permalink_name", "Link to this {kind}", "html")
    app.add_config_value("not_found_title", "Page not found", "html")
    app.setup_extension("sphinxext.opengraph")
    # Its own descriptions contain LaTeX and the numbers of citations.
    opengraph.get_description = lambda document, length, titles: describe(document, length)
    app.connect("config-inited", configure)
    app.connect("doctree-resolved", add_facts)
    # After the extension for social cards, which has the default 500.
    app.connect("html-page-context", finish_page, priority=900)
    app.connect("build-finished", write_robots)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
