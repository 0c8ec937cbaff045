"""Live figures: the page's numbers are those of the expressions, and what moves is as drawn afresh.

Every figure of the notebooks is found and tested here, and one that has all that can move.
"""

import copy
import functools
import hashlib
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import browser
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import sympy as sp
from playwright.sync_api import sync_playwright
from py_mini_racer import MiniRacer

import kl2dpo.figures
from kl2dpo.figures import choice, count, live, slide, stored, switch, use_book_style
from kl2dpo.figures._live import _rest

CHAPTERS = Path(__file__).parents[2] / "chapters"
NOTEBOOKS = {
    path.stem: nbformat.read(path, as_version=4)
    for path in sorted(CHAPTERS.rglob("*.ipynb"))
    if "kl2dpo-live" in path.read_text(encoding="utf-8")
}
a, b, n, which, show, k, s, z, x = sp.symbols("a b n which show k s z x", real=True)


def everything(**changes):
    """A figure with every kind of artist, input and map."""
    fig, (top, bottom) = plt.subplots(2, figsize=(3.4, 4.6))
    style = {"arrowstyle": "-|>", "color": "C2", "lw": 2, "shrinkB": 5}
    (dot,) = top.plot(0, 0, "o", color="C1")
    arrow = top.annotate("", (0, 0), (0, 0), arrowprops=style)
    area = top.fill_between([0, 1], [0, 0], [1, 1], color="C0", alpha=0.3, lw=0)
    (triangle,) = top.fill([0, 1, 1], [0, 0, 1], color="C4")
    label = top.text(0, 0, "", ha="center")
    (trail,) = top.plot([0, 1], [0, 1], "C3o-")
    top.set(xlim=(-2, 2), ylim=(2, -2))
    across = bottom.barh([0, 1], 1)
    upright = bottom.bar([3, 30], 1, width=1)
    (state,) = bottom.plot(1, 0, "C3s")
    (root,) = bottom.plot(1, 0, "k^")
    bottom.set(xlim=(0.1, 100), ylim=(-0.5, 2.5), xscale="log")
    bottom.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    bottom.set_xticks([], minor=True)
    data = stored([0.5, 1, 1.5, 1.2, 0.7])
    integral = sp.Integral(sp.exp(-((x - a) ** 2)), (x, 0, 2))
    half = sp.Rational(1, 2)
    moves = {
        dot: (a, b),
        arrow: ([0, a], [0, b]),
        area: (x, 0, sp.exp(-((x - a) ** 2)), x, np.linspace(-2, 2, 21)),
        triangle: ([-1, -1, n / 10 - 1], [-1, -1 - n / 10, -1]),
        label: (a, b + half, "{:.1f} and {:.2f}", a, b),
        trail: (x / 4 - 1, data(sp.Min(x, k)) - 1, x, range(5)),
        across: [(half, n + 1), (1, 2 * 10**which)],
        upright: [half, sp.log(1 + sp.exp(a))],
        state: (10**s, 2),
        root: (z, 2),
    }
    inputs = [
        slide(a, "First", -1, 1, 0.5, step=0.05),
        slide(b, "Second", 0.05, 1.5, 0.5, log=True, unit=" nats"),
        count(n, "Wins", 3, high=60),
        slide(k, "Step", 0, 4, 2, step=1),
        {"More": [choice(which, "Which", ["one", '<b>"two"'], 1), switch(show, "Area")]},
    ]
    arguments = {
        "state": {s: 0},
        "play": {"Go": {s: s + (1 - s) / 20, a: a + (1 - a) / 20}},
        "push": {"Kick": {a: a + sp.Rational(1, 10)}, "Break": {s: sp.log(s - 2)}},
        "settle": {z: (1, (z + (n + 1) / z) / 2)},
        "drag": {dot: (a, None)},
        "shown": {area: sp.Eq(show, 1), across: n < 30},
        "notes": {n > 5: "Many wins."},
        "domain": {n < 50: "Too many wins."},
        "name": "everything",
        "alt": 'Everything "that" can <move>, in one figure.',
        **{"n": n, "s": s, "z": z, "integral": integral},
        **changes,
    }
    say = "n {n:.0f}, s {s:.3f}, root {z:.5f}, integral {integral:.6f}."
    return fig, moves, inputs, say, arguments


def drawn(case, figure, moves, inputs, say, arguments):
    return case, live(figure, moves, inputs, say, **arguments)


@functools.cache
def made(where):
    """The figures of a notebook, run again: what `live` was called with, and what it made."""
    calls = []

    def record(figure, moves, inputs, say, **arguments):
        result = live(figure, moves, inputs, say, **arguments)
        calls.append(((figure, moves, inputs, say, arguments), result))
        return result

    with plt.rc_context(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(plt, "show", lambda: plt.close("all"))
        if where == "everything":
            use_book_style()
            case = everything()
            record(*case[:-1], **case[-1])
        else:
            patch.setattr(kl2dpo.figures, "live", record)
            names = {}
            for cell in NOTEBOOKS[where].cells:
                if cell.cell_type == "code":
                    exec(cell.source, names)
        plt.close("all")
    return {case[-1]["name"]: (case, result) for case, result in calls}


FIGURES = [("everything", "everything")] + [
    (where, name)
    for where, notebook in NOTEBOOKS.items()
    for name in re.findall(r'data-live=\\"([\w-]+)', json.dumps(notebook))
]
every_figure = pytest.mark.parametrize("where, name", FIGURES, ids=lambda text: text)


@functools.cache
def published(where, name):
    """The HTML of a figure as it stands in the notebook."""
    if where == "everything":
        return made(where)[name][1].data
    outputs = (o for c in NOTEBOOKS[where].cells for o in c.get("outputs", []))
    pages = (o.get("data", {}).get("text/html", "") for o in outputs)
    return next(page for page in pages if f'data-live="{name}"' in page)


class Script:
    """The compiled code of a figure, as it stands in the notebook, in a JavaScript engine."""

    def __init__(self, where, name):
        push = re.findall(r"<script>(.*?)</script>", published(where, name), re.DOTALL)[1]
        self.engine = MiniRacer()
        self.engine.eval("window = {}; " + push)
        self.engine.eval("[name, formulas, settle, maps, spec] = window.kl2dpoLive[0]")
        self.engine.eval(
            "text = (f, all) => JSON.stringify(all.map(v => f(v)), (key, u) =>"
            " typeof u === 'number' && !Number.isFinite(u) ? String(u) : u)"
        )

    def run(self, function, points):
        """Its results at these points, each as one flat list of numbers."""
        results = json.loads(self.engine.eval(f"text({function}, {json.dumps(points)})"))
        return [[float(u) for o in r for u in (o if isinstance(o, list) else [o])] for r in results]


def flat(outputs):
    return [float(u) for o in outputs for u in np.ravel(o)]


def points_of(figure, number, seed=0):
    """Values of inputs and states: random ones, and all corners (each one alone if they are many)."""
    rng = np.random.default_rng(seed)
    whole = [i.kind != "range" or i.step == 1 for i in figure.inputs]
    states = figure.start[len(figure.inputs) :]

    def draw(i, whole):
        if whole:
            return float(rng.integers(i.low, i.high + 1))
        if i.log:
            return float(i.low * (i.high / i.low) ** rng.uniform())
        return float(rng.uniform(i.low, i.high))

    points = [
        [draw(i, w) for i, w in zip(figure.inputs, whole)]
        + [float(u + rng.normal()) for u in states]
        for _ in range(number)
    ]
    ends = [(i.low, i.high) for i in figure.inputs]
    corners = itertools.product(*ends) if len(ends) <= 8 else (
        [*figure.start[:j], u, *figure.start[j + 1 : len(ends)]]
        for j, pair in enumerate(ends) for u in pair
    )  # fmt: skip
    return [*points, *([*map(float, c), *map(float, states)] for c in corners)]


def same(found, expected):
    return np.allclose(found, expected, rtol=1e-9, atol=1e-12, equal_nan=True)


@every_figure
def test_numbers_of_the_script_are_those_of_the_expressions(where, name):
    figure, script = made(where)[name][1], Script(where, name)
    points = [[*p, *_rest(figure.rest, p)] for p in points_of(figure, 200)]
    programs = {"formulas": figure.program} | {
        f"maps[{j}][2]": step for j, step in enumerate(figure.steps.values())
    }
    programs |= {"settle": figure.rest[1]} if figure.rest[0] else {}
    for function, program in programs.items():
        for point, found in zip(points, script.run(function, points)):
            expected = flat(program.numpy(point))
            assert len(found) == len(expected)
            assert same(found, expected), (function, point)


@every_figure
def test_a_changed_operator_is_noticed(where, name):
    figure, script = made(where)[name][1], Script(where, name)
    points = [[*p, *_rest(figure.rest, p)] for p in points_of(figure, 20)[:60]]
    code = figure.program.javascript
    found = script.run(f"({code})", points)
    other = {"+": "-", "-": "+", "*": "/", "/": "*"}
    tried, missed = 0, []
    for operator in re.finditer(r"(?<![\w.]e)(?<![+*/=])[-+*/](?![+=*/])", code):
        place = operator.start()
        before = code[:place]
        # Any shift of a softmax is right, and a counter is no formula.
        if before.rfind("Math.max(") > -1:
            inside = before[before.rfind("Math.max(") + len("Math.max") :]
            if inside.count("(") > inside.count(")"):
                continue
        mutant = f"({before}{other[operator[0]]}{code[place + 1 :]})"
        tried += 1
        if all(map(same, script.run(mutant, points), found)):
            missed.append(code[max(0, place - 30) : place + 30])
    assert tried > 2 and not missed


NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")
NAMESPACE = "{http://www.w3.org/2000/svg}"


def parts_of(svg, name):
    """What one sees of each part: where its points are, its marks, and its text."""
    root = ElementTree.fromstring(svg)
    size = [float(u) for u in root.get("viewBox").split()[2:]]
    parts = {}
    for group in root.iter(f"{NAMESPACE}g"):
        if not re.fullmatch(rf"{name}-\d+", group.get("id", "")):
            continue
        if "hidden" in group.get("style", ""):
            parts[group.get("id")] = None
            continue
        path = " ".join(e.get("d") for e in group.findall(f"{NAMESPACE}path"))
        points = np.array(NUMBER.findall(path), float).reshape(-1, 2)
        # Outside the drawing, matplotlib cuts lines off.
        points = points[((points > 0.5) & (points < np.array(size) - 0.5)).all(axis=1)]
        marks = [[float(u.get("x")), float(u.get("y"))] for u in group.iter(f"{NAMESPACE}use")]
        text = group.find(f"{NAMESPACE}text")
        words = None
        if text is not None:
            shift = [*map(float, NUMBER.findall(group.get("transform", "0 0")))]
            marks = [[float(text.get("x")) + shift[0], float(text.get("y")) + shift[1]]]
            words = text.text
        parts[group.get("id")] = points, np.array(marks).reshape(-1, 2), words
    return parts


def still(html):
    """The picture and the sentence that a figure shows without its script."""
    source = re.search(r'src="data:image/svg\+xml,([^"]*)"', html)[1]
    return unquote(source), re.search(r'class="live-say"[^>]*>([^<]*)<', html)[1]


def afresh(where, name, values):
    """The figure, drawn with these values as its start."""
    (figure, moves, inputs, say, arguments), result = made(where)[name]
    values = iter(values)

    def moved(i):
        if isinstance(i, dict):
            return {key: [*map(moved, folded)] for key, folded in i.items()}
        i = copy.copy(i)
        object.__setattr__(i, "start", next(values))  # a step may end off the steps of the control
        return i

    inputs = [moved(i) for i in inputs]
    arguments = arguments | {"state": {s: next(values) for s in arguments.get("state", {})}}
    with plt.rc_context():
        use_book_style()
        return live(figure, moves, inputs, say, **arguments).data


@pytest.fixture(scope="module")
def chromium():
    if not browser.find():
        pytest.skip("neither Chromium nor Chrome is installed")
    with sync_playwright() as playwright, browser.launch(playwright) as running:
        yield running


HEAD = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Figures</title><main>'


@pytest.fixture
def tab(chromium):
    with chromium.new_context(viewport={"width": 360, "height": 740}) as context:
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.wrong = []
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("console", lambda line: line.type == "error" and page.wrong.append(line.text))
        yield page
        assert not page.wrong


MOVE = """values => document.querySelectorAll(".live-controls :is(input, select)").forEach((f, k) => {
  f.type === "checkbox" ? f.checked = values[k] : f.value = values[k];
  f.dispatchEvent(new Event("input", {bubbles: true}));
  f.dispatchEvent(new Event("change", {bubbles: true}));
})"""
SVG = "new XMLSerializer().serializeToString(document.querySelector('svg'))"
# How far the page has shifted since the window got its width.
SHIFT = """since => new Promise(done => new PerformanceObserver(list => done(
  list.getEntries().filter(entry => entry.startTime > since).reduce((sum, entry) => sum + entry.value, 0)
)).observe({type: "layout-shift", buffered: true}) || setTimeout(() => done(0), 200))"""
NOW = "new Promise(done => setTimeout(() => done(performance.now()), 100))"


@every_figure
def test_moved_is_drawn_afresh(where, name, tab):
    figure = made(where)[name][1]
    rng = np.random.default_rng(1)
    tab.set_content(HEAD + published(where, name) + "<p>What follows.")
    for width in (360, 1280):
        tab.set_viewport_size({"width": width, "height": 740})
        since = tab.evaluate(NOW)
        controls, values = [], []
        for i in figure.inputs:
            steps = i.ticks if i.log else round((i.high - i.low) / i.step)
            position = int(rng.integers(steps + 1))
            value = i.low * (i.high / i.low) ** (position / max(i.ticks, 1)) if i.log else 0
            value = float(f"{value:.3g}") if i.log else round(i.low + position * i.step, i.digits)
            controls.append(position if i.log else value)
            values.append(value)
        values += figure.start[len(values) :]
        tab.evaluate(MOVE, controls)
        checked = [values]
        for step in [*figure.steps.values()][:1] if figure.steps else []:
            tab.locator("[data-to=step]").click()
            after = [*values]
            for place, u in zip(step.places, step.numpy([*values, *_rest(figure.rest, values)])):
                after[place] = u
            checked = [after]
        for values in checked:
            assert_same_as_afresh(tab, where, name, values)
        tab.locator("[data-to=start]").click()
        assert_same_as_afresh(tab, where, name, figure.start)
        assert tab.evaluate(SHIFT, since) <= 0.02


def assert_same_as_afresh(tab, where, name, values):
    try:
        picture, sentence = still(afresh(where, name, values))
    except ValueError:  # outside the domain: the picture has stayed
        assert tab.locator(".live-note").inner_text()
        return
    moved, fresh = parts_of(tab.evaluate(SVG), name), parts_of(picture, name)
    assert moved.keys() == fresh.keys() and fresh
    for part, expected in fresh.items():
        found = moved[part]
        assert (found is None) == (expected is None), part
        for u, v in zip(found or (), expected or ()):
            if isinstance(v, np.ndarray):
                assert u.shape == v.shape and np.allclose(u, v, rtol=0, atol=0.02), part
            else:
                assert u == v, part
    assert tab.locator(".live-say").text_content() == sentence
