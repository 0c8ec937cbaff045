"""Still figures without a ground, in the colours of the page.

An image takes light or dark from the page (its `color-scheme`, which the theme's button changes), so
one file serves both, and is fetched when it is near. A notebook keeps the white ground: there, no
program tells a figure what is behind it.
"""

import re
from pathlib import Path

import kl2dpo
from kl2dpo.figures._svg import in_colours_of_page
from website import pages
from website.changes import change, expected

LIVE = Path(kl2dpo.__file__).with_name("figures") / "live.css"
# The first area of a figure, or of its axes.
GROUND = expected(
    r'(<g id="(?:figure|axes)_\d+">\s*<g id="patch_\d+">\s*<path [^>]*style="fill: )#ffffff(?="/>)'
)
# The style that matplotlib writes into each figure.
STYLE = expected(r"(?<=\*\{stroke-linejoin: round; stroke-linecap: butt\})(?=</style>)")


def of_pages(css, mode):
    """Text and ground of the pages, light or dark, which an image cannot ask for."""
    for own, name in [("color", "text-base"), ("--live-ground", "background")]:
        rule = rf'data-theme="?{mode}"?\][^{{}}]*{{[^{{}}]*--pst-color-{name}: ?(#\w+)'
        *_, last = re.findall(rule, css)
        yield f"{own}:{last};"


def finish(app, exception):
    if exception or app.builder.format != "html":
        return
    css = Path(app.outdir, pages.STATIC, pages.SHEET).read_text(encoding="utf-8")
    light, dark = ("".join(of_pages(css, mode)) for mode in ("light", "dark"))
    [curves] = re.findall(r'html\[data-theme="dark"\],[^{}]*\{([^}]*)\}', LIVE.read_text("utf-8"))
    dark += "".join(curves.split())
    rules = f":root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
    for path in Path(app.outdir, "_images").glob("*.svg"):
        svg = change(GROUND, r"\1none", path.read_text(encoding="utf-8"))
        svg = change(STYLE, rules, in_colours_of_page(svg))
        if rules in svg:  # drawn by matplotlib
            path.write_text(svg, encoding="utf-8")


def setup(app):
    app.connect("build-finished", finish, priority=910)  # after the style sheet
