"""The built website in a real browser, driven by Playwright: what a reader would meet.

`make test` builds the website first. Without it these tests are skipped, and without Chromium or
Chrome those that need a browser, unless the variable REQUIRE_BROWSER says that all must run.
"""

import functools
import http.server
import io
import os
import re
import threading
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import browser
import nbformat
import numpy as np
import pytest
import yaml
from axe_playwright_python.base import AXE_SCRIPT
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_build" / "html"
PAGES = sorted(
    path.relative_to(SITE).as_posix()
    for path in SITE.rglob("*.html")
    if "data-content_root" in path.read_text(encoding="utf-8")
)
NOTEBOOKS = [page for page in PAGES if (ROOT / page).with_suffix(".ipynb").exists()]
REQUIRED = os.environ.get("REQUIRE_BROWSER")
if not PAGES and not REQUIRED:
    pytest.skip("the website is not built (make book)", allow_module_level=True)


@functools.cache
def parsed(path):
    return BeautifulSoup((SITE / path).read_text(encoding="utf-8"), "html.parser")


@functools.cache
def ids(path):
    return {element["id"] for element in parsed(path).select("[id]")}


# The page for what does not exist asks for its parts at the address of the published website, if it is known.
BASE = parsed("404.html").select_one("base")
ADDRESS = BASE["href"].removesuffix("404.html") if BASE else ""

# Whether the website knows its repository: then each notebook's page has a link that launches it.
KNOWN = "https://mybinder.org/v2/" in str(parsed("chapters/home.html"))

# Markup that should have become something else. Code is left out, and formulas.
RAW = re.compile(r"\$|\\frac|\\mathrm|\{(?:eq|ref|numref|cite|prf:ref|doc)[:}]|\]\(|^:::|```", re.M)
TEXT = """() => {
  const copy = document.querySelector("main").cloneNode(true);
  copy.querySelectorAll("pre, code, script, style, math").forEach(part => part.remove());
  return copy.textContent;
}"""
FORMULAS = """() => ({
  all: document.querySelectorAll("span.math, div.math").length,
  rendered: document.querySelectorAll(":is(span.math, div.math) math").length,
  broken: document.querySelectorAll(":is(span.math, div.math) > code, merror").length,
})"""
HEADINGS = "() => [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(h => +h.tagName[1])"
WINDOW = {"width": 1280, "height": 800}
# Also what is far below the window, which the browser does not lay out before the reader comes near.
EVERYTHING = "* { content-visibility: visible !important }"
PICTURES = """() => Promise.all([document.fonts.ready, ...[...document.images].map(image => {
  image.loading = "eager";
  return image.complete || new Promise(done => { image.onload = image.onerror = done });
})])"""
CAN_BE_USED = "main :is(a[href], button, input, select, summary, [tabindex='0'])"
FOCUS = """() => {
  const part = document.activeElement, style = getComputedStyle(part);
  const outline = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  const again = part === document.body || "seen" in part.dataset;
  part.dataset.seen = "";
  return {again, html: part.outerHTML.slice(0, 120), visible: outline || style.boxShadow !== "none"};
}"""
NOT_REACHED = """parts => [...document.querySelectorAll(parts + ":not([data-seen])")]
  .filter(part => part.checkVisibility({visibilityProperty: true}))
  .map(part => part.outerHTML.slice(0, 120))"""
# Its colours at once: a page on its way from light to dark has contrasts of neither.
THEME = "mode => { document.documentElement.dataset.theme = mode }"
# Its scripts have run, which come after the first paint.
READY = "html[data-ready]"
# Controls that are called otherwise than what one sees of them.
HIDDEN_NAMES = """() => [...document.querySelectorAll("main :is(summary, button, a)[aria-label]")]
  .filter(part => part.innerText.trim() && !part.ariaLabel.includes(part.innerText.trim()))
  .map(part => part.outerHTML.slice(0, 120))"""
# Code of at most 79 characters that does not fit.
CUT = """() => [...document.querySelectorAll("div.cell_input pre")]
  .filter(part => part.scrollWidth > part.clientWidth).map(part => part.innerText.slice(0, 120))"""
OPEN_FOLDS = "() => document.querySelectorAll('details').forEach(fold => { fold.open = true })"
# Whatever fonts a phone has: every letter as wide as the widest.
WIDE = "DejaVu Sans Mono, monospace"
FONT = """font => {
  for (const part of [document.documentElement, document.body]) {
    part.style.setProperty("--pst-font-family-base", font);
    part.style.setProperty("--pst-font-family-heading", font);
    part.style.fontFamily = font;
  }
}"""


@pytest.fixture(scope="module")
def server():
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


@pytest.fixture(scope="module")
def chromium():
    if not browser.find() and not REQUIRED:
        pytest.skip("neither Chromium nor Chrome is installed")
    with sync_playwright() as playwright, browser.launch(playwright) as running:
        yield running


@pytest.fixture
def tab(chromium):
    with chromium.new_context(viewport=WINDOW, reduced_motion="reduce") as context:
        # No page may wait long for anything: all of it is on this machine.
        context.set_default_timeout(10_000)
        page = context.new_page()
        if ADDRESS:

            def answer(route):
                path = urlsplit(route.request.url.removeprefix(ADDRESS)).path
                route.fulfill(path=SITE / path)

            page.route(ADDRESS + "**", answer)
        goto = page.goto

        def arrive(address):
            goto(address)
            page.locator(READY).wait_for(state="attached")

        page.goto = arrive
        yield page


@pytest.fixture
def complaints(tab, server):
    """What goes wrong on the page: errors of its scripts, and requests that fail or leave."""
    found = []
    tab.on("console", lambda line: line.type == "error" and found.append(line.text))
    tab.on("pageerror", lambda error: found.append(str(error)))
    tab.on("requestfailed", lambda request: found.append(f"failed: {request.url}"))
    tab.on("response", lambda got: got.status >= 400 and found.append(f"{got.status}: {got.url}"))
    local = (server, ADDRESS or server, "data:", "blob:")
    tab.on("request", lambda r: r.url.startswith(local) or found.append(f"foreign: {r.url}"))
    return found


# Texts of the same colour and size on the same ground have the same contrast. Three of each kind are
# tried, on the first page that has it: to try all would take most of the time of all tests.
KINDS = """known => {
  const grounds = new Map([[null, ""]]), kinds = {};
  const ground = part => {
    if (!grounds.has(part)) {
      const {backgroundColor, backgroundImage, opacity} = getComputedStyle(part);
      const own = [backgroundColor, backgroundImage, opacity].join();
      grounds.set(part, ground(part.parentElement) + (own === "rgba(0, 0, 0, 0),none,1" ? "" : own));
    }
    return grounds.get(part);
  };
  for (const part of document.querySelectorAll("body *")) {
    delete part.dataset.sample;
    if (![...part.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    if (!part.checkVisibility({visibilityProperty: true})) continue;
    const {color, fontSize, fontWeight} = getComputedStyle(part);
    const kind = [color, fontSize, fontWeight, ground(part)].join();
    if (known.includes(kind)) continue;
    kinds[kind] = (kinds[kind] ?? 0) + 1;
    if (kinds[kind] <= 3) part.dataset.sample = "";
  }
  return Object.keys(kinds);
}"""
KNOWN_KINDS: set = set()
SAMPLES = ';axe.configure({rules: [{id: "color-contrast", selector: "[data-sample]"}]})'


def barriers(tab, colours_only=False):
    """What axe finds serious or critical, with the first place of each."""
    kinds = tab.evaluate(KINDS, [*KNOWN_KINDS])
    if colours_only and not kinds:
        return []
    KNOWN_KINDS.update(kinds)
    options = {"resultTypes": ["violations"]}
    options |= {"runOnly": ["color-contrast"]} if colours_only else {}
    found = Axe(AXE_SCRIPT + SAMPLES).run(tab, options=options).response["violations"]
    worst = [barrier for barrier in found if barrier["impact"] in ("serious", "critical")]
    return [f"{barrier['id']}: {barrier['nodes'][0]['html'][:200]}" for barrier in worst]


@pytest.mark.parametrize("path", PAGES)
def test_page(path, tab, server, complaints):
    tab.goto(server + path)
    tab.evaluate(PICTURES)
    assert not complaints
    tab.add_style_tag(content=EVERYTHING)
    assert not RAW.search(tab.evaluate(TEXT)), RAW.search(tab.evaluate(TEXT))
    formulas = tab.evaluate(FORMULAS)
    assert formulas["all"] == formulas["rendered"] and not formulas["broken"], formulas

    levels = tab.evaluate(HEADINGS)
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(below <= above + 1 for above, below in zip(levels, levels[1:])), levels

    for mode in ("light", "dark"):
        tab.evaluate(THEME, mode)
        assert not barriers(tab, colours_only=mode == "dark"), mode

    assert tab.evaluate(HIDDEN_NAMES) == []

    tab.evaluate(OPEN_FOLDS)
    assert tab.evaluate(CUT) == []
    for width, font in ((400, ""), (360, ""), (320, ""), (320, WIDE), (378, WIDE), (400, WIDE)):
        tab.evaluate(FONT, font)
        tab.set_viewport_size({"width": width, "height": 740})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, font
        # What the page hides where it ends cannot be scrolled to, and is not counted above.
        links = "[...document.querySelectorAll('.prev-next-area a > *')]"
        ends = tab.evaluate(links + ".map(part => part.getBoundingClientRect().right)")
        assert all(end <= width for end in ends)


def test_typefaces_are_small_files_that_no_page_waits_for(tab, server):
    tab.goto(server + "chapters/dpo/dpo-loss.html")
    loaded = "[...document.fonts].filter(font => font.status === 'loaded').map(font => font.family)"
    for family in "Serif", "Sans":
        tab.wait_for_function(f"{loaded}.some(name => name.includes('Book {family}'))")
    links = tab.locator("link[rel=preload]").evaluate_all("all => all.map(link => link.href)")
    files = {path.name: path.stat().st_size for path in (SITE / "_static/fonts").glob("*.woff2")}
    assert {link.rpartition("/")[2] for link in links} == {*files}
    assert sum(files.values()) < 150_000


@pytest.mark.parametrize("path", PAGES)
def test_links_and_anchors_resolve(path):
    page = parsed(path)
    assert len(page.select("[id]")) == len(ids(path)), "an identifier that is not of one element"
    launches = [a["href"] for a in page.select("a[href*='mybinder.org/v2']")]
    notebook = path.removesuffix("html") + "ipynb"
    assert all(link.endswith(notebook) for link in launches)
    if path in NOTEBOOKS:
        assert bool(launches) == KNOWN, "a launch link where, and only where, there is a repository"
    for element in page.select("a[href], area[href]"):
        target, anchor = urldefrag(urljoin(path, element["href"]))
        if urlsplit(target).scheme or element["href"] == "#":
            continue
        target = unquote(target) or path
        assert (SITE / target).is_file(), f"{path}: {element['href']}"
        if anchor and target.endswith(".html"):
            assert unquote(anchor) in ids(target), f"{path}: {element['href']}"


REDIRECTS = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"]


@pytest.mark.parametrize("old, new", REDIRECTS["redirects"].items())
def test_an_old_address_leads_to_a_page(old, new):
    assert not [*ROOT.glob(f"{old}.*")], "a page is there"
    assert urljoin(old, new) in PAGES
    assert f'url={new}"' in (SITE / f"{old}.html").read_text(encoding="utf-8")


def printed(cell):
    """The outputs of a notebook's cell that a page shows as text."""
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.text.rstrip()
        elif set(output.get("data", ())) == {"text/plain"}:
            yield output.data["text/plain"].rstrip()


def test_every_page_has_a_description_of_its_own():
    chapters = [path for path in PAGES if path.startswith("chapters/")]
    tags = [parsed(path).select("meta[name=description]") for path in chapters]
    texts = {tag["content"] for [tag] in tags}  # one on each page
    assert len(texts) == len(chapters)
    assert all(100 <= len(text) <= 160 for text in texts), texts
    # On a card, these would be shown as they are written in HTML.
    assert not any(set(text) & {*"&<>'\""} for text in texts), texts


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_outputs_are_those_of_the_notebook(path):
    cells = nbformat.read((ROOT / path).with_suffix(".ipynb"), as_version=4).cells
    shown = parsed(path).select("div.cell")
    cells = [cell for cell in cells if cell.cell_type == "code"]
    assert len(shown) == len(cells)
    for number, (cell, box) in enumerate(zip(cells, shown)):
        texts = box.select(".cell_output :is(.stream, .text_plain) pre")
        assert [text.get_text().rstrip() for text in texts] == [*printed(cell)], number


@pytest.mark.parametrize("folder", [False, True])
def test_search(folder, tab, server, complaints):
    """From the key to the section, on a server and in a folder; test_search.py has the results."""
    site = f"{SITE.as_uri()}/" if folder else server
    tab.goto(site + "chapters/home.html")
    tab.keyboard.press("Control+k")
    tab.keyboard.type("reward hacking")
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"{site}search.html?q=*")
    tab.locator(READY).wait_for(state="attached")
    assert tab.locator("[role=status]").inner_text().endswith("“reward hacking”")
    assert tab.locator("li mark").first.inner_text().lower() == "reward"
    section = "limits.html#over-optimisation"
    tab.locator(f"li h2 a[href$='{section}']").click()
    tab.wait_for_url(f"{site}**/{section}")
    assert tab.locator("#over-optimisation > h2").is_visible()
    assert not tab.locator("mark, .highlighted").count()
    assert not [found for found in complaints if not found.startswith(f"foreign: {site}")]


@pytest.mark.parametrize("words, found", [("reward hacking", 20), ("KL散度", 20), ("zzyzx", 0)])
def test_found_places(words, found, tab, server):
    tab.goto(f"{server}search.html?q={words}")
    assert words in tab.locator("[role=status]").inner_text()
    assert tab.locator("ol > li > h2 > a").count() == found
    for width, mode in (1280, "light"), (1280, "dark"), (360, "dark"):
        tab.set_viewport_size({"width": width, "height": 740})
        tab.evaluate(THEME, mode)
        assert not barriers(tab), mode
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("path", [NOTEBOOKS[-1], "404.html"])
def test_the_search_stays_in_view_above_the_menu(path, tab, server):
    tab.goto(server + path)
    tab.evaluate("document.getElementById('pst-primary-sidebar').scrollTo(0, 400)")
    button = tab.locator("#pst-primary-sidebar .search-button-field")
    box = button.bounding_box()
    assert 0 <= box["y"] < 200
    button.click()
    assert tab.locator("dialog input[type=search]").is_visible()


# To parse all pages would take each worker of a run of all tests a quarter of a minute.
LIVE = [p for p in PAGES if '<div class="kl2dpo-live"' in (SITE / p).read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", LIVE)
@pytest.mark.parametrize("width", [360, 1280])
def test_live_figures(path, width, tab, server, complaints):
    tab.set_viewport_size({"width": width, "height": 740})
    tab.goto(f"{server}{path}")
    assert tab.locator("script[src*='live.js']").count() == 1
    for figure in tab.locator("figure .kl2dpo-live").all():
        assert figure.locator("xpath=ancestor::figure//figcaption").inner_text()
        figure.scroll_into_view_if_needed()
        height, said = figure.bounding_box()["height"], figure.locator(".live-say")
        start, before = said.inner_text(), figure.locator("svg").inner_html()
        figure.locator("input").first.press("ArrowUp")
        assert figure.locator("svg").inner_html() != before
        assert figure.bounding_box()["height"] == height
        figure.get_by_role("button", name="Reset").click()
        assert said.inner_text() == start and figure.bounding_box()["height"] == height
        tab.evaluate(THEME, "dark")
        box = figure.locator("xpath=..")
        assert box.evaluate("box => getComputedStyle(box).backgroundColor") == "rgba(0, 0, 0, 0)"
    assert not complaints


def test_solution_opens_by_keyboard(tab, server):
    tab.goto(server + "chapters/dpo/dpo-loss.html")
    solution = tab.locator("details.solution").first
    title, text = (solution.locator(part).first for part in ("summary", "p"))
    assert title.text_content() == "Solution to Exercise 11.1"
    title.focus()
    assert not text.is_visible()
    tab.keyboard.press("Enter")
    assert text.is_visible()


def test_what_scrolls_sideways_is_a_tab_stop_and_nothing_else(tab, server):
    tab.set_viewport_size({"width": 360, "height": 740})
    tab.goto(server + "chapters/bradley-terry/policy-as-reward.html")
    tab.add_style_tag(content=EVERYTHING)
    tab.evaluate(OPEN_FOLDS)
    boxes = "[...document.querySelectorAll('.formula, main pre')]"
    wide = f"{boxes}.filter(box => box.scrollWidth > box.clientWidth)"
    stops = f"{boxes}.filter(box => box.tabIndex === 0)"
    tab.wait_for_function(
        f"[...{wide}, ...{stops}].every(box => {wide}.includes(box) && box.tabIndex === 0)"
    )
    kinds = tab.evaluate(f"{stops}.map(box => box.tagName)")
    assert {*kinds} == {"PRE", "DIV"}


def test_a_link_into_a_folded_solution_opens_it(tab, server):
    page = server + "chapters/kl/leash.html"
    places = [place["id"] for place in parsed("chapters/kl/leash.html").select(".solution > [id]")]
    opened = "[...document.querySelectorAll('.solution')].map(fold => fold.open).indexOf(true)"
    tab.goto(f"{page}#{places[3]}")
    assert tab.evaluate(opened) == 3
    tab.evaluate("place => { location.hash = place }", places[1])
    tab.wait_for_function(f"{opened} === 1")
    tab.goto(server + "chapters/home.html")
    tab.go_back()
    tab.wait_for_function(f"{opened} === 1")


def test_back_leads_to_the_line_where_the_reader_was(tab, server):
    tab.goto(server + "chapters/kl/leash.html")
    height = "document.documentElement.scrollHeight"
    for top in range(0, 9000, 400):
        tab.evaluate(
            "async top => { scrollTo(0, top); await new Promise(requestAnimationFrame) }", top
        )
    line = """(() => {
      const first = [...document.querySelectorAll("article p")]
        .find(part => part.checkVisibility() && part.getBoundingClientRect().top > 0);
      return first.textContent.slice(0, 40);
    })()"""
    seen, true_height = tab.evaluate(line), tab.evaluate(height)
    tab.goto(server + "chapters/home.html")
    tab.go_back()
    tab.wait_for_function("scrollY > 8000")
    assert tab.evaluate(line) == seen, true_height


def test_a_page_without_scripts_in_a_dark_system_is_that_of_a_light_one(chromium, server):
    colours = """() => [...document.querySelectorAll("body, article :is(p, a, pre, span, summary)")]
      .map(part => [getComputedStyle(part).color, getComputedStyle(part).backgroundColor].join())"""
    seen = []
    for scripts, scheme in ((True, "light"), (False, "dark")):
        options = {"java_script_enabled": scripts, "color_scheme": scheme}
        with chromium.new_context(viewport=WINDOW, **options) as context:
            tab = context.new_page()
            tab.goto(server + "chapters/appendix/api-kl.html")
            seen.append(set(tab.evaluate(colours)))
            tab.goto(server + "chapters/kl/leash.html")
            tab.locator("details.solution summary").first.click(position={"x": 60, "y": 9})
            assert tab.locator("details.solution p").first.is_visible()
    assert seen[0] == seen[1]


def test_on_a_touch_screen_only_headings_have_a_sign(chromium, server):
    with chromium.new_context(viewport=WINDOW, has_touch=True, is_mobile=True) as context:
        tab = context.new_page()
        tab.goto(server + "chapters/kl/leash.html")
        signs = tab.locator("article a.headerlink:visible")
        assert set(signs.evaluate_all("all => all.map(sign => sign.parentNode.tagName)")) == {
            *("H1", "H2", "H3")
        }


def test_a_printed_page_shows_its_solutions(tab, server):
    tab.goto(server + "chapters/kl/leash.html")
    tab.emulate_media(media="print")
    assert tab.locator("details.solution p").first.is_visible()
    assert all(
        value == "avoid"
        for value in tab.locator("article figure").evaluate_all(
            "all => all.map(figure => getComputedStyle(figure).breakInside)"
        )
    )


def test_theme_switch(tab, server):
    tab.emulate_media(color_scheme="light")
    tab.goto(server + "chapters/home.html")
    seen = set()
    for _ in range(3):
        tab.locator(".theme-switch-button:visible").first.click()
        root = tab.evaluate("({...document.documentElement.dataset})")
        colour = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        seen.add((root["mode"], root["theme"], colour))
    assert {mode for mode, _, _ in seen} == {"light", "dark", "auto"}
    assert len({(theme, colour) for _, theme, colour in seen}) == 2


def corner_and_contrast(picture):
    pixels = np.asarray(Image.open(io.BytesIO(picture.screenshot())).convert("L"))
    return int(pixels[6, 6]), np.ptp(pixels)


@pytest.mark.parametrize("system", ["light", "dark"])
def test_a_still_figure_follows_the_button_and_not_the_system(system, tab, server):
    tab.emulate_media(color_scheme=system)
    tab.goto(server + "chapters/kl/leash.html")
    for mode, ground in ("dark", 0), ("light", 255), ("dark", 0):
        tab.evaluate(THEME, mode)
        tab.wait_for_timeout(200)
        corner, contrast = corner_and_contrast(tab.locator("#fig-objective img"))
        assert abs(corner - ground) < 40 and contrast > 120, mode


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_a_still_figure_has_a_ground_where_the_system_chooses_the_colours(mode, tab, server):
    tab.emulate_media(forced_colors="active", color_scheme="dark")
    tab.goto(server + "chapters/kl/leash.html")
    tab.evaluate(THEME, mode)
    tab.wait_for_timeout(200)
    corner, contrast = corner_and_contrast(tab.locator("#fig-objective img"))
    assert corner > 250 and contrast > 200


@pytest.mark.parametrize("path", ["chapters/kl/leash.html", "chapters/appendix/api-dpo.html"])
def test_keyboard_reaches_everything_with_a_visible_focus(path, tab, server):
    tab.goto(server + path)
    seen = [{"again": False, "visible": True}]
    while not seen[-1]["again"]:
        tab.keyboard.press("Tab")
        seen.append(tab.evaluate(FOCUS))
    assert len(seen) > 50
    assert not [part["html"] for part in seen[:-1] if not part["visible"]]
    assert not tab.evaluate(NOT_REACHED, CAN_BE_USED)
