"""Live figures: the page's numbers are those of the expressions, and what moves is as drawn afresh.

Every figure of the notebooks is found and tested here, and one that has all that can move.
"""

import copy
import functools
import gzip
import hashlib
import itertools
import json
import math
import os
import re
import subprocess
import sys
from html import unescape
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
from kl2dpo.figures import choice, count, live, slide, stored, use_book_style
from kl2dpo.figures._compile import Program
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
        {
            "More": [
                choice(which, "Which", ["one", '<b>"two"'], 1),
                choice(show, "Area", ["no", "yes"], 1),
            ]
        },
    ]
    arguments = {
        "state": {s: 0},
        "play": {"Go": {s: s + (1 - s) / 20, a: a + (1 - a) / 20}},
        "push": {"Kick": {a: a + sp.Rational(1, 10)}, "Break": {s: sp.log(s - 2)}},
        "settle": {z: (1, (z + (n + 1) / z) / 2)},
        "drag": {dot: (a, None)},
        "shown": {area: sp.Eq(show, 1), across: n < 30},
        "notes": {n > 5: "Many wins."},
        "domain": {n < 50: "Too many wins for this picture."},
        "name": "everything",
        "alt": 'Everything "that" can <move>, in one figure.',
        "n": n,
        "s": s,
        "z": z,
        "integral": integral,
        **changes,
    }
    say = "n {n:.0f}, s {s:.3f}, root {z:.5f}, integral {integral:.6f}."
    return fig, moves, inputs, say, arguments


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
            code = [cell for cell in NOTEBOOKS[where].cells if cell.cell_type == "code"]
            last = max(
                j for j, cell in enumerate(code) if "kl2dpo-live" in json.dumps(cell.outputs)
            )
            for cell in code[: last + 1]:
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
        f"maps[{j}][2]": step for j, (_, step) in enumerate(figure.steps.values())
    }
    programs |= {"settle": figure.rest[1]} if figure.rest[0] else {}
    for function, program in programs.items():
        for point, found in zip(points, script.run(function, points)):
            expected = flat(program.numpy(point))
            assert len(found) == len(expected)
            assert same(found, expected), (function, point)


@every_figure
def test_every_input_moves_something(where, name):
    figure = made(where)[name][1]
    programs = [figure.program, *(step for _, step in figure.steps.values())]
    for k, i in enumerate(figure.inputs):
        found = []
        for u in (i.start, i.low, i.high):
            values = [*figure.start[:k], u, *figure.start[k + 1 :]]
            values += _rest(figure.rest, values)
            found.append([u for program in programs for u in flat(program.numpy(values))])
        assert not all(same(moved, found[0]) for moved in found[1:]), i.label


@every_figure
def test_a_changed_operator_is_noticed(where, name):
    figure, script = made(where)[name][1], Script(where, name)
    points = [[*p, *_rest(figure.rest, p)] for p in points_of(figure, 20)[:60]]
    # Not of conditions and of ranks, which are the same at many points.
    outputs = [
        e
        for e in figure.program.outputs
        if not (isinstance(e, sp.Piecewise) and e.args[0][0] == 1)
        and not (isinstance(e, sp.Expr) and e.has(sp.sign))
    ]
    code = Program(figure.program.symbols, *outputs).javascript
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
        # Point by point: nearly all are noticed at the first.
        if all(same(script.run(mutant, [p])[0], u) for p, u in zip(points, found)):
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
        # Matplotlib closes some outlines by a copy of the first point, and cuts off what is outside.
        if len(points) > 2 and np.allclose(points[0], points[-1], atol=0.01):
            points = points[:-1]
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
    return unquote(source), unescape(re.search(r'class="live-say"[^>]*>([^<]*)<', html)[1])


def afresh(where, name, values):
    """The figure, drawn with these values as its start."""
    figure, moves, inputs, say, arguments = made(where)[name][0]
    values = iter(values)

    def moved(i):
        if isinstance(i, dict):
            return {key: [*map(moved, folded)] for key, folded in i.items()}
        i = copy.copy(i)
        object.__setattr__(i, "start", next(values))  # a step may end off the steps of the control
        return i

    inputs = [moved(i) for i in inputs]
    arguments = arguments | {"state": {s: next(values) for s in arguments.get("state", {})}}
    figure.set_layout_engine("none")  # a second time, it would give the axes a little more room
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
  f.value = values[k];
  f.dispatchEvent(new Event("input", {bubbles: true}));
  f.dispatchEvent(new Event("change", {bubbles: true}));
})"""
SVG = "new XMLSerializer().serializeToString(document.querySelector('svg'))"
# Where everything stands, to the end of the page, also what is below the window.
PLACES = """[...document.querySelectorAll(".live-panel *:not(.live-heard), main > p")]
  .map(part => part.getBoundingClientRect())
  .filter(box => box.width).map(box => [box.top + scrollY, box.bottom + scrollY, box.left])"""
# The same with each text that may come below the figure, as it comes when a play ends.
NOTED = f"""() => {{
  const note = document.querySelector(".live-note"), texts = [], found = [];
  window.kl2dpoLive = {{push: ([, , , maps, spec]) => texts.push(
    ...[...spec.notes, ...spec.domain].map(([, text]) => text), ...(maps.length ? ["At rest."] : []))}};
  eval(document.querySelector(".kl2dpo-live > script").textContent);
  for (const text of ["", ...texts]) {{
    note.textContent = text;
    found.push({PLACES});
  }}
  note.textContent = "";
  return found;
}}"""


@every_figure
def test_moved_is_drawn_afresh(where, name, tab):
    figure = made(where)[name][1]
    rng = np.random.default_rng(1)
    tab.set_content(HEAD + published(where, name) + "<p>What follows.")
    for width in (360, 1280):
        tab.set_viewport_size({"width": width, "height": 740})
        before = tab.evaluate(PLACES)
        assert all(places == before for places in tab.evaluate(NOTED))
        controls, values = [], []  # what the controls are told, and what that means
        for i in figure.inputs:
            steps = i.ticks if i.log else round((i.high - i.low) / i.step)
            position = int(rng.integers(steps + 1))
            value = i.low * (i.high / i.low) ** (position / max(i.ticks, 1)) if i.log else 0
            value = float(f"{value:.3g}") if i.log else round(i.low + position * i.step, i.digits)
            controls.append(position if i.log else value)
            values.append(value)
        values += figure.start[len(values) :]
        tab.evaluate(MOVE, controls)
        if figure.steps:
            places, step = next(iter(figure.steps.values()))
            tab.locator("[data-push]").first.click()
            after = [*values]
            for place, u in zip(places, step.numpy([*values, *_rest(figure.rest, values)])):
                after[place] = u
            ends = [(i.low, i.high) for i in figure.inputs]
            inside = np.isfinite(after).all() and all(
                low <= u <= high for u, (low, high) in zip(after, ends)
            )
            values = after if inside else values
        assert_same_as_afresh(tab, where, name, values)
        assert tab.evaluate(PLACES) == before
        tab.locator("[data-to=start]").click()
        assert_same_as_afresh(tab, where, name, figure.start)
        assert tab.evaluate(PLACES) == before


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


def build(**changes):
    with plt.rc_context():
        use_book_style()
        *case, arguments = everything(**changes)
        return live(*case, **arguments)


def test_the_same_text_for_every_order_of_sets():
    code = "import hashlib, test_live; print(hashlib.sha256(test_live.build().data.encode()).hexdigest())"
    seed = {
        "PYTHONHASHSEED": "77",
        "PYTHONPATH": os.pathsep.join([*sys.path, os.path.dirname(__file__)]),
    }
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | seed,
        capture_output=True,
        check=True,
        text=True,
    )
    assert run.stdout == hashlib.sha256(build().data.encode()).hexdigest() + "\n"


@every_figure
def test_is_small_asks_for_nothing_and_has_names_of_its_own(where, name):
    page = published(where, name)
    _, _, own = page.partition('<div class="kl2dpo-live"')
    assert len(gzip.compress(own.encode())) < 25_000
    picture, _ = still(page)
    names = re.findall(r'\bid="([^"]*)"', picture)
    assert names and len(names) == len({*names}) and all(i.startswith(f"{name}-") for i in names)
    assert {*re.findall(r'(?:href="#|url\(#)([\w-]+)', picture)} <= {*names}
    assert "<style" not in picture and "eval" not in own and "Function(" not in own
    assert not re.search(r'https?:(?!//www.w3.org/2000/svg")', picture + page.replace("%22", '"'))


def test_texts_are_escaped():
    page = build(push={'<i>"Kick"': {s: s + 1}}, notes={n > 5: "</script><b>"}).data
    assert page.count("</script>") == 2 and "<\\/script><b>" in page
    assert "&lt;b&gt;&quot;two&quot;" in page and "&lt;i&gt;&quot;Kick&quot;" in page
    assert 'alt="Everything &quot;that&quot; can &lt;move&gt;, in one figure."' in page
    assert ElementTree.fromstring(still(page)[0]).get("aria-label").startswith('Everything "that"')


def test_a_hidden_part_and_the_numbers_of_a_state_without_rest():
    page = build(settle={z: (1, -z + n)}).data  # to and fro between 1 and 2
    parts = parts_of(still(page)[0], "everything")
    assert "root –" in still(page)[1].replace("\xa0", " ")
    assert [part for part in parts if parts[part] is None] == ["everything-11"]
    assert build(settle={z: (1, sp.log(z - n))}).at(n=2)["z"] != 0  # out of the domain at once


def test_at_gives_the_numbers_of_other_settings():
    figure = build()
    integral = math.pi**0.5 / 2 * (math.erf(1.5) + math.erf(0.5))
    assert figure.at() == pytest.approx({"n": 3, "s": 0, "z": 2, "integral": integral}, rel=1e-4)
    assert figure.at(n=8, s=0.5)["z"] == pytest.approx(3)
    with pytest.raises(ValueError, match="y.* no input and no state"):
        figure.at(y=1)


def test_places_are_those_of_matplotlib():
    """Of areas and arrows, which are written anew, and on axes of every kind."""
    with plt.rc_context():
        use_book_style()
        for scale, turned in itertools.product(("linear", "log"), (False, True)):
            fig, ax = plt.subplots()
            ax.set(xlim=(0.1, 10), ylim=(0.2, 3), xscale=scale, yscale=scale)
            ticks = [0.3, 1, 3]
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_ticks(ticks, [*map(str, ticks)])
                axis.set_ticks([], minor=True)
                axis.set_inverted(turned)
            arguments = {"arrowstyle": "-|>", "shrinkA": 3, "shrinkB": 5}
            arrow = ax.annotate("", (1, 1), (1, 1), arrowprops=arguments)
            (line,) = ax.plot([0.3, 2, 5], [0.3, 1, 2])
            (dots,) = ax.plot(1, 1, "o")
            area = ax.fill_between([1, 2], [0.5, 0.4], [1, 2])
            moves = {
                arrow: ([a, 2 * a], [a, 3 * a]),
                dots: ([a, 2 * a], [a, 3 * a]),
                area: ([1, 2, 2 * a], [0.5, 0.4, 0.4], [1, 2, a]),
                line: ([1, 2, 2 * a, 2 * a, 2, 1], [0.5, 0.4, 0.4, a, 2, 1]),
            }
            inputs = [slide(a, "A", 0.2, 0.9, 0.7)]
            page = live(fig, moves, inputs, "", name="places", alt="Places.").data
            parts = parts_of(still(page)[0], "places")
            shaft, (tail, tip) = parts["places-0"][0], parts["places-1"][1]
            along = (tip - tail) / np.linalg.norm(tip - tail)
            assert np.allclose(shaft[0], tail + 3 * along, atol=0.01)
            assert np.allclose(shaft[3], tip - 5 * along, atol=0.01)
            assert np.allclose(np.linalg.norm(shaft[2] - shaft[4]), 2 * 0.42 * 7, atol=0.02)
            assert np.allclose(parts["places-2"][0], parts["places-3"][0], atol=0.01)


def changed(**changes):
    """The arguments of `everything`, some of them changed; a function gets what was there."""
    figure, moves, inputs, say, arguments = everything()
    dot = next(iter(moves))
    call = {"figure": figure, "moves": moves, "inputs": inputs, "say": say, **arguments}
    for key, value in changes.items():
        call[key] = value(call[key], figure, dot) if callable(value) else value
    return call


def with_move(es):
    return lambda moves, figure, dot: moves | {dot: es}


def with_artist(make, es=(a, b)):
    return lambda moves, figure, dot: moves | {make(figure.axes[0]): es}


def with_input(i):
    return lambda inputs, figure, dot: [*inputs, i]


y = sp.Symbol("y", real=True)
WRONG = {
    "an input in no expression": ({"inputs": with_input(slide(y, "Y", 0, 1, 0))}, "y.*occur"),
    "a state in no expression": ({"state": {s: 0, y: 0}}, "y.*occur"),
    "a symbol that is no input": ({"moves": with_move((a, y))}, "has .'y'., expected inputs"),
    "no JavaScript": ({"moves": with_move((a, sp.gamma(b)))}, "gamma.* no JavaScript"),
    "another name in it": ({"moves": with_move((a, sp.I * b))}, "no JavaScript for .'I'"),
    "None": ({"moves": with_move((a, None))}, "is None, expected an expression"),
    "a generator": ({"moves": with_move((a, (u for u in [b])))}, "generator.* expected an expr"),
    "a text": ({"moves": with_move((a, "b"))}, "expected an expression"),
    "True": ({"moves": with_move((a, True))}, "expected an expression"),
    "no pair": ({"moves": with_move(a)}, "expected a tuple"),
    "three entries": ({"moves": with_move((a, b, a))}, "of 3 entries, expected 2, or 4"),
    "more y than x": ({"moves": with_move((a, [b, b]))}, "as many x as y"),
    "a curve over no symbol": ({"moves": with_move((a, b, 2, [1]))}, "over 2, expected over a sym"),
    "an endless sum": ({"moves": with_move((a, sp.Sum(b**x, (x, 0, sp.oo))))}, "between two num"),
    "a double integral": (
        {"moves": with_move((a, sp.Integral(x * y, (x, 0, 1), (y, 0, 1))))}, "one variable"),
    "a start outside": ({"start": 2}, "start of the input 'Y' is 2.0, expected a number <= 1"),
    "a start off the steps": ({"start": 1 / 3}, "expected 0.0 plus steps of 0.01"),
    "four digits": ({"start": 0.1234, "log": True, "low": 0.1}, "a number of three digits"),
    "a legend": ({"moves": with_artist(lambda ax: ax.legend([], []))}, "expected bars, lines"),
    "points of scatter": ({"moves": with_artist(lambda ax: ax.scatter(0, 0))}, "expected bars, li"),
    "another figure": (
        {"moves": with_artist(lambda ax: plt.figure().add_subplot().plot(0, 0)[0])}, "in the axes of"),
    "a line in other coordinates": (
        {"moves": with_artist(lambda ax: ax.axhline(0))}, "coordinates of the data"),
    "an arrow with text": (
        {"moves": with_artist(lambda ax: ax.annotate("x", (0, 0)))}, "an arrow without text"),
    "an arrow of one point": (
        {"moves": with_artist(lambda ax: ax.annotate("", (0, 0), (1, 1), arrowprops={}))},
        "2 for an arrow"),
    "text on two lines": (
        {"moves": with_artist(lambda ax: ax.text(0, 0, "x\nx"))}, "one level line"),
    "too few bars": ({"moves": with_artist(lambda ax: ax.bar([0, 1], 1), [a])}, "a list of 2"),
    "a length on a log axis": (
        {"moves": lambda moves, figure, dot: moves | {figure.axes[1].barh([0], 1): [a]}}, "pairs"),
    "a symlog axis": (
        {"moves": lambda moves, figure, dot: figure.axes[0].set_xscale("symlog") or moves}, "symlog"),
    "mathtext": (
        {"moves": lambda moves, figure, dot: figure.axes[0].set_xlabel("$x$") and moves}, "mathtext"),
    "a start outside the axes": (
        {"moves": lambda moves, figure, dot: figure.axes[0].set_xlim(8, 9) and moves}, "limits of its axes"),
    "a field without a number": ({"say": "{y:.2f}"}, "'y', expected one of"),
    "a number without a field": ({"y": a}, "expected a field for each"),
    "another format": ({"say": "{n:d} {s:.1f} {z:.1f} {integral:.1f}"}, "'d', expected one such"),
    "a name with a space": ({"name": "my figure"}, "small letters"),
    "no input": ({"inputs": with_input(a)}, "a slide, count or choice"),
    "a symbol twice": ({"inputs": with_input(slide(a, "Y", 0, 1, 0))}, "each one once"),
    "a map of no symbol": ({"push": {"Kick": {y: a}}}, "of .y., expected of inputs"),
    "a condition that is none": ({"notes": {a: "A."}}, "a relation of SymPy"),
    "shown, not moved": ({"shown": {None: a > 0}}, "an artist of moves"),
    "a line that one cannot drag": (
        {"drag": lambda drag, figure, dot: {figure.axes[0].lines[1]: (a, b)}}, "a line of one point"),
    "dragged by a field": ({"drag": lambda drag, figure, dot: {dot: (n, None)}}, "symbols of slides"),
    "dragged without effect": (
        {"drag": lambda drag, figure, dot: {dot: (None, a)}}, "a symbol that its place depends on"),
    "no label": ({"label": " "}, "label of y is ' ', expected its name"),
    "a start outside the domain": ({"domain": {n > 5: "Too few."}}, "Too few.*expected one in"),
}  # fmt: skip


@pytest.mark.parametrize("changes, message", WRONG.values(), ids=WRONG)
def test_what_is_refused(changes, message):
    with plt.rc_context(), pytest.raises(ValueError, match=message):
        use_book_style()
        if {"start", "label"} & {*changes}:
            slide(y, **{"label": "Y", "low": 0, "high": 1, "start": 0, **changes})
        live(**changed(**changes))
    plt.close("all")


def test_keys_move_a_figure_and_go_no_farther(tab):
    tab.set_content(HEAD + build().data)
    tab.evaluate("document.addEventListener('keydown', () => { window.heard = true })")
    sentence, field = tab.locator(".live-say"), tab.get_by_label("Second")
    before = sentence.text_content(), tab.evaluate(SVG)
    field.focus()
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate(SVG) != before[1] and not tab.evaluate("window.heard")
    assert re.fullmatch(r"0\.5\d+ nats", field.get_attribute("aria-valuetext"))
    wins = tab.get_by_label("Wins")
    for typed, used in [("8", "8"), ("", "8"), ("1e9", "8"), ("2.6", "3"), ("-4", "0")]:
        wins.fill(typed)
        wins.blur()
        # With 60 the picture stays, and a note says why.
        shown = "60" if typed == "1e9" else used
        assert wins.input_value() == shown
        assert f"n {used}," in sentence.text_content().replace("\xa0", " ")
        assert ("Too many" in tab.locator(".live-note").inner_text()) == (typed == "1e9")
    heard = tab.locator("[role=status]")
    heard.filter(has_text="root 1.00000").wait_for(state="attached")


def test_a_curve_that_comes_first_moves(tab):
    # Its place among the outputs is 0, which is no number to be taken for false.
    fig, axes = plt.subplots(subplot_kw={"xlim": (0, 1), "ylim": (0, 1)})
    (curve,) = axes.plot([0, 1], [0, 1])
    moves, slope = {curve: (x, a * x, x, [0, 1])}, slide(a, "Slope", 0, 1, 0.5)
    tab.set_content(HEAD + live(fig, moves, [slope], "A line.", name="first", alt="A line.").data)
    before = tab.evaluate(SVG)
    tab.get_by_label("Slope").press("End")
    assert tab.evaluate(SVG) != before


def test_play_pause_reset_and_the_end_of_a_run(tab):
    tab.set_content(HEAD + build().data)
    sentence, note = tab.locator(".live-say"), tab.locator(".live-note")
    play, start = tab.locator("[data-play=Go]"), sentence.text_content()
    play.click()
    tab.get_by_role("button", name="Pause").click()
    halfway = sentence.text_content()
    assert halfway != start and play.is_visible()
    tab.get_by_role("button", name="Break").click()
    assert "no finite value" in note.inner_text() and sentence.text_content() == halfway
    for _ in range(11):
        tab.get_by_role("button", name="Kick").click()
    assert "range of a control ends" in note.inner_text()
    tab.get_by_role("button", name="Reset all").click()
    assert sentence.text_content() == start and not note.inner_text()
    play.click()
    note.filter(has_text="At rest.").wait_for()
    assert "s 1.000" in sentence.text_content().replace("\xa0", " ") and play.is_visible()
    tab.get_by_role("button", name="Reset all").click()
    tab.emulate_media(reduced_motion="reduce")
    play.click()  # at once
    assert note.inner_text() == "At rest." and play.is_visible()


def test_rewind_keeps_what_the_reader_has_chosen(tab):
    tab.set_content(HEAD + build().data)
    sentence, first = tab.locator(".live-say"), tab.get_by_label("First")
    tab.get_by_label("Wins").fill("8")
    first.press("ArrowLeft")
    chosen = sentence.text_content(), first.input_value(), tab.evaluate(SVG)
    for _ in range(2):
        tab.get_by_role("button", name="Go one step").click()
    assert sentence.text_content() != chosen[0] and first.input_value() != chosen[1]
    tab.get_by_role("button", name="Rewind").click()
    assert chosen == (sentence.text_content(), first.input_value(), tab.evaluate(SVG))
    tab.get_by_role("button", name="Reset all").click()
    assert tab.get_by_label("Wins").input_value() == "3" and first.input_value() == "0.5"
    # Nor does it go back to what was chosen before that.
    tab.get_by_role("button", name="Rewind").click()
    assert tab.get_by_label("Wins").input_value() == "3"


def test_a_finger_drags_a_point_and_not_the_page(chromium):
    with chromium.new_context(viewport={"width": 360, "height": 740}, has_touch=True) as context:
        page = context.new_page()
        page.set_content(HEAD + build().data + "<p style='height: 3000px'>What follows.")
        box = page.locator(".live-grip").bounding_box()
        finger = context.new_cdp_session(page)
        for k, kind in enumerate(["touchStart", *["touchMove"] * 5, "touchEnd"]):
            place = {"x": box["x"] + 20 - 6 * k, "y": box["y"] + 20 - 5 * k}
            points = [place] if kind != "touchEnd" else []
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        left = "document.querySelector('.live-grip').getBoundingClientRect().left"
        page.wait_for_function(f"x => Math.abs({left} - x) < 3", arg=box["x"] - 30)
        assert page.evaluate("scrollY") == 0


def test_a_point_is_dragged(tab):
    tab.set_content(HEAD + build().data)
    box = tab.locator(".live-grip").bounding_box()
    assert min(box["width"], box["height"]) >= 24
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(x + 3, y + 3)
    tab.mouse.down()
    tab.mouse.move(x - 27, y + 40, steps=4)
    tab.mouse.up()
    tab.mouse.move(x - 90, y)
    moved = tab.locator(".live-grip").bounding_box()
    assert moved["x"] - box["x"] == pytest.approx(-30, abs=3)  # to the nearest step
    assert moved["y"] == box["y"]
    assert float(tab.get_by_label("First").input_value()) < 0.5


def test_a_point_whose_place_is_a_formula_follows_the_pointer(tab):
    fig, axes = plt.subplots(subplot_kw={"xlim": (0, 1), "ylim": (0, 1)})
    (dot,) = axes.plot(0, 0, "o")
    arguments = {"drag": {dot: (None, a)}, "name": "fall", "alt": "A dot."}
    figure = live(fig, {dot: (0.5, sp.exp(-a))}, [slide(a, "Fall", 0, 3, 1)], "", **arguments)
    tab.set_content(HEAD + figure.data)
    box = tab.locator(".live-grip").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(x, y)
    tab.mouse.down()
    for up in (20, 40, -30, 500):
        tab.mouse.move(x, y - up)
        moved = box["y"] - tab.locator(".live-grip").bounding_box()["y"]
        assert moved == pytest.approx(up, abs=2) or up == 500
    assert tab.get_by_label("Fall").input_value() == "0"


NAMES = """() => [...document.querySelectorAll("input, select, button, summary")].map(part => {
  const name = (part.labels?.[0] ?? part).cloneNode(true);
  name.querySelectorAll("[aria-hidden], select").forEach(other => other.remove());
  const {width, height} = part.getBoundingClientRect();
  return {name: name.textContent.trim(), tag: part.outerHTML.slice(0, 90), width, height};
})"""


def test_all_figures_on_one_page(tab):
    """Twice each: no identifier is of two figures, and each copy moves alone."""
    pages = [published(*case) for case in FIGURES]
    tab.set_content(HEAD + "".join(pages))
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map(part => part.id)")
    assert len(ids) == len({*ids})
    tab.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    for control in tab.evaluate(NAMES):
        assert control["name"] and min(control["width"], control["height"]) >= 24, control
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    assert tab.locator(".kl2dpo-live[data-awake]").count() == len(pages)
    tab.set_content(HEAD + pages[0] + pages[0])
    first, second = tab.locator("svg").all()
    before = second.inner_html()
    tab.get_by_label("First").first.press("ArrowRight")
    assert first.inner_html() != before == second.inner_html()


POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"


def test_works_from_a_file_without_eval_and_without_a_script(tab, chromium, tmp_path):
    page, policy = (
        tmp_path / "page.html",
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
    )
    page.write_text(HEAD.replace("<title", policy + "<title") + build().data, encoding="utf-8")
    tab.goto(page.as_uri())
    tab.get_by_label("First").press("ArrowRight")
    assert "0.6 and" in tab.locator("#everything-4").text_content()
    tab.wrong[:] = [
        line for line in tab.wrong if "violates" not in line
    ]  # the image, at once replaced
    with chromium.new_context(java_script_enabled=False) as context:
        plain = context.new_page()
        page.write_text(HEAD + build().data, encoding="utf-8")
        plain.goto(page.as_uri())
        assert (
            plain.locator("img").is_visible()
            and "n\xa03" in plain.locator("p").first.text_content()
        )
        assert not plain.locator("input, select, button").filter(visible=True).count()
