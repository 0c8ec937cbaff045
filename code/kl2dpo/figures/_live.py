"""Live figures: matplotlib draws the artists, expressions of SymPy say where they stand."""

import html
import json
import re
import string
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import sympy as sp
from IPython.display import HTML
from matplotlib.collections import PolyCollection
from matplotlib.container import BarContainer
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from matplotlib.text import Annotation, Text

from kl2dpo._checks import as_number, refuse
from kl2dpo.figures._compile import Program
from kl2dpo.figures._svg import to_svg

SVG = "{http://www.w3.org/2000/svg}"
REST = 10_000  # Steps within which a map that is run to rest must come to rest.
DIGITS = re.compile(r"\.(\d+)f")
# The colours of the style have a twin for dark pages (live.css); its blacks are the text's colour.
COLOURS = ["2f6690", "c8502f", "3a7d44", "a87b00", "7a4f9a", "6b7280"]


@dataclass(frozen=True)
class _Input:
    symbol: sp.Symbol
    label: str
    low: float
    high: float
    start: float
    kind: str
    step: float = 1
    log: bool = False
    unit: str = ""
    options: tuple = ()

    def __post_init__(self):
        name = f"the input {self.label!r}"
        refuse(not isinstance(self.symbol, sp.Symbol), name, repr(self.symbol), "a symbol of SymPy")
        low = as_number(f"low of {name}", self.low, *[(">", 0)] * self.log)
        high = as_number(f"high of {name}", self.high, (">", low))
        step = as_number(f"step of {name}", self.step, (">", 0))
        start = as_number(f"start of {name}", self.start, (">=", low), ("<=", high))
        for word, x in [("start", start), ("high", high)]:
            on_step = float(f"{x:.3g}") == x if self.log else abs((x - low) / step % 1 - 0.5) > 0.499
            expected = "a number of three digits" if self.log else f"{low} plus steps of {step}"
            refuse(not on_step, f"{word} of {name}", x, expected)

    @property
    def digits(self):
        return max(0, -int(Decimal(str(self.step)).normalize().as_tuple().exponent))

    @property
    def ticks(self):
        """Positions of a logarithmic range: one is about 2 %, which three digits can show."""
        return round(np.log(self.high / self.low) / np.log(1.02)) if self.log else 0

    def control(self):
        """The control in HTML, which the script gives the rest."""
        label = f"<span>{html.escape(self.label)}</span>"
        bounds = (0, self.ticks, 1) if self.log else (self.low, self.high, self.step)
        bounds = ' min="{}" max="{}" step="{}" autocomplete="off"'.format(*bounds)
        field = {
            "range": f'{label}<input type="range"{bounds}><span aria-hidden="true"></span>',
            "number": f'{label}<input type="number" inputmode="numeric"{bounds}>',
            "switch": f'<input type="checkbox" autocomplete="off">{label}',
            "choice": f'{label}<select autocomplete="off">'
            + "".join(
                f'<option value="{k}">{html.escape(o)}</option>' for k, o in enumerate(self.options)
            )
            + "</select>",
        }
        return f'<label class="{self.kind}">{field[self.kind]}</label>\n'


def slide(symbol, label, low, high, start, *, step=0.01, log=False, unit=""):
    """An input of `live`: a range; with `log`, positions are 2 % apart and have three digits.

    Examples
    --------
    >>> slide(sp.Symbol("beta"), "Leash β", 0.02, 100, 1, log=True).ticks
    430
    """
    return _Input(symbol, label, low, high, start, "range", step, log, unit)


def count(symbol, label, start, *, low=0, high=99):
    """An input of `live`: a field for a whole number.

    Examples
    --------
    >>> count(sp.Symbol("n"), "A beats B", 8).high
    99
    """
    return _Input(symbol, label, low, high, start, "number")


def choice(symbol, label, options, start=0):
    """An input of `live`: one of several texts; the symbol is its place, from 0.

    Examples
    --------
    >>> choice(sp.Symbol("loss"), "Loss", ["DPO", "IPO"]).high
    1
    """
    return _Input(symbol, label, 0, len(options) - 1, start, "choice", options=tuple(options))


def switch(symbol, label, start=1):
    """An input of `live`: a box to tick; the symbol is 1 or 0.

    Examples
    --------
    >>> switch(sp.Symbol("show"), "Show IPO").start
    1
    """
    return _Input(symbol, label, 0, 1, start, "switch")


class Live(HTML):
    """A figure in HTML, and what its formulas say at other values of its inputs and states."""

    def __init__(self, data, program, rest, start, numbers):
        super().__init__(data)
        self.program, self.rest, self.start, self.numbers = program, rest, start, numbers

    def outputs(self, values):
        """The outputs of the program, after its last symbols have come to rest."""
        return self.program.numpy([*values, *_rest(self.rest, values)])

    def at(self, **values):
        """The numbers of the sentence at these inputs and states; the others are at their start.

        Evaluated by NumPy from the expressions that the page evaluates in JavaScript.
        """
        start = dict(zip(map(str, self.program.symbols), self.start))
        if odd := values.keys() - start.keys():
            raise ValueError(f"{sorted(odd)} is no input and no state, expected some of {[*start]}")
        out = self.outputs([*(start | values).values()])
        return {name: out[slot] for name, slot in self.numbers.items()}


def _rest(rest, values):
    """The map of `settle` run to rest from its start, or NaN."""
    x, step = rest
    for _ in range(REST):
        before, x = x, step.numpy([*values, *x])
        if not np.isfinite(x).all():
            break
        if all(abs(a - b) <= 1e-12 * (1 + abs(a)) for a, b in zip(x, before)):
            return x
    return [np.nan] * len(x)


def _fixed(x, digits):
    """As JavaScript writes it: halves away from zero, and a minus that is one."""
    if not np.isfinite(x):
        return "–" if np.isnan(x) else "∞" if x > 0 else "−∞"
    text = str(Decimal(float(x)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))
    return text.replace("-", "−")


def _segments(name, text, slots):
    """A text with fields as a list of texts and of pairs (place of the output, digits)."""
    found, used = [], []
    for before, key, form, _ in string.Formatter().parse(text):
        found += [before] if before else []
        if key is None:
            continue
        key = key or str(len(used))
        digits = DIGITS.fullmatch(form or "")
        refuse(key not in slots, f"a field of {name}", repr(key), f"one of {[*slots]}")
        refuse(not digits, f"the format of {key!r} in {name}", repr(form), "digits, as in '.3f'")
        found.append([slots[key], int(digits[1])])
        used.append(key)
    refuse(slots.keys() - {*used}, name, repr(text), f"fields for all of {[*slots]}")
    return found


def _written(segments, out):
    return "".join(s if isinstance(s, str) else _fixed(out[s[0]], s[1]) for s in segments)


def _arrow(tail, tip):
    """Shaft and head, seven points long, of an arrow that ends in its tip. The script has the same."""
    tail, tip = np.array(tail), np.array(tip)
    length = max(float(np.hypot(*(tip - tail))), 1e-9)
    along = (tip - tail) / length * min(7.0, length)
    base, side = tip - along, along[::-1] * [0.42, -0.42]
    return [[tail, base], [base + side, tip, base - side]]


def _d(*lines, end=""):
    return "".join("M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in line) + end for line in lines)


def live(
    figure, moves, inputs, say, *, name, alt, state=(), play=(), push=(), settle=(), drag=(),
    shown=(), notes=(), domain=(), **numbers,
):  # fmt: skip
    """A figure whose inputs move its artists, in the page, by the formulas that SymPy derived.

    One piece of HTML that needs nothing from outside. The expressions are compiled to JavaScript;
    by the same expressions, NumPy places the artists of the still picture, which remains without
    JavaScript, in print, and in a notebook that is not trusted.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        With the artists drawn, wherever. It has its limits for the whole range of the inputs, is
        3.4 inches wide, and its texts are plain: no mathtext.
    moves : dict
        What each artist depends on. Of ``bar``, a list with the length of each, or a pair (low,
        high). Of ``plot``, (x, y) for one point, lists for several, or (x, y, symbol, values) for
        a curve. Of ``fill_between``, (x, low, high, symbol, values); of ``fill``, two lists. Of
        an arrow by ``annotate``, two lists, tail first. Of ``text``, (x, y), or (x, y, "{:.2f}",
        expression), where the numbers in it change.
    inputs : list
        Of `slide`, `count`, `choice`, `switch`; those in a dict are folded under its key.
    say : str
        The sentence below, with fields like ``{kl:.3f}``, each one a keyword argument.
    name : str
        Unique in the page: small letters, digits and hyphens.
    alt : str
        What one sees in the figure, for those who do not see it.
    state : dict, optional
        Symbols that only maps change, with their start.
    play, push : dict, optional
        Text of a button, and the map {symbol: its next value} that it repeats, or does once.
    settle : dict, optional
        Symbol: (start, next value). This map is run to rest on every change; without rest the
        symbols are NaN.
    drag : dict, optional
        Artist with one point: the symbols of the `slide` of its x and of its y, or None.
    shown : dict, optional
        Artist: the condition under which it is there.
    notes, domain : dict, optional
        Condition: text. A note is shown while its condition holds. Where a condition of the
        domain fails, the figure keeps its last good state, and the text says why.
    **numbers
        Expressions of the fields of `say`.

    Returns
    -------
    Live
        Shows itself in a notebook; its `at` gives the numbers at other inputs.

    Raises
    ------
    ValueError
        For an input or a state that occurs nowhere, a symbol that is neither, a function that
        has no JavaScript, a start outside its bounds, an artist that cannot be moved.

    Examples
    --------
    >>> a = sp.Symbol("a", real=True)
    >>> figure, axes = plt.subplots()
    >>> (dot,) = axes.plot(0, 0, "o")
    >>> square = live(figure, {dot: (a, a**2)}, [slide(a, "Side", 0, 1, 0.5)],
    ...               "Area {area:.2f}.", name="square", alt="A dot on a parabola.", area=a**2)
    >>> square.at(), square.at(a=0.2)["area"].__round__(6)
    ({'area': 0.25}, 0.04)
    """
    state, play, push, settle = map(dict, (state, play, push, settle))
    drag, shown, notes, domain = map(dict, (drag, shown, notes, domain))
    expected = "small letters, digits and hyphens"
    refuse(not re.fullmatch(r"[a-z][a-z0-9-]*", name), "name", repr(name), expected)
    groups = [i if isinstance(i, dict) else {"": [i]} for i in inputs]
    inputs = [i for group in groups for folded in group.values() for i in folded]
    odd = next((i for i in inputs if not isinstance(i, _Input)), None)
    refuse(odd is not None, "an input", repr(odd), "a slide, count, choice or switch")
    free = [*(i.symbol for i in inputs), *state]
    symbols = [*free, *settle]
    refuse(len({*symbols}) < len(symbols), "symbols", symbols, "each one once")
    start = [i.start for i in inputs] + [as_number(f"state {s}", x) for s, x in state.items()]

    # The program: one output for each number that something shows.
    program = Program(symbols)
    axes = []
    parts = [
        _part(f"{name}-m{k}", program, figure, axes, artist, es)
        for k, (artist, es) in enumerate(moves.items())
    ]
    where = dict(zip(moves, parts))

    def truth(word, condition):
        bad = not isinstance(condition, (sp.logic.boolalg.Boolean, bool))
        refuse(bad, f"a condition of {word}", repr(condition), "a relation of SymPy")
        return program.add(word, sp.Piecewise((1, condition), (0, True)))

    for artist, condition in shown.items():
        refuse(artist not in where, "shown", artist, "an artist of moves")
        where[artist]["shown"] = truth("shown", condition)
    slots = {key: program.add(key, e) for key, e in numbers.items()}
    say = _segments("say", say, slots)
    notes, domain = (
        [[truth(word, c), text] for c, text in texts.items()]
        for word, texts in [("notes", notes), ("domain", domain)]
    )
    maps, changed = [], []
    for label, change in (play | push).items():
        odd = next((s for s in change if s not in free), None)
        refuse(odd is not None, f"the map {label!r}", f"of {odd}", f"of inputs and states: {free}")
        step = Program(symbols)
        for symbol, e in change.items():
            step.add(f"the next {symbol}", e)
        places = [free.index(s) for s in change]
        maps.append(f"[{json.dumps(label, ensure_ascii=False)},{places},{step.javascript}]")
        changed += step.outputs
    rest = Program(symbols)
    for symbol, (_, e) in settle.items():
        rest.add(f"the next {symbol}", e)
    rest = [as_number(f"settle {s}", x) for s, (x, _) in settle.items()], rest
    expressions = [e[0] if isinstance(e, tuple) else e for e in program.outputs]
    used = set().union(*(e.free_symbols for e in expressions + changed + rest[1].outputs))
    odd = next((s for s in symbols if s not in used), None)
    refuse(odd is not None, f"the input or state {odd}", "in no expression", "one that it moves")

    drags = []
    for artist, pair in drag.items():
        part = where.get(artist, {})
        single = part.get("kind") == "line" and isinstance(part["x"], list) and len(part["x"]) == 1
        refuse(not single, "drag", artist, "a line of one point, with its expressions in moves")
        slides = {i.symbol: k for k, i in enumerate(inputs) if i.kind == "range"}
        odd = next((s for s in pair if s is not None and s not in slides), None)
        refuse(odd is not None, "drag", f"by {odd}", "by the symbols of slides, which keys move")
        drags.append([parts.index(part), *map(slides.get, pair)])

    # The still picture.
    first = program.numpy([*start, *_rest(rest, start)])
    bad = next((text for slot, text in domain if not first[slot]), None)
    refuse(bad is not None, "the start", f"outside the domain: {bad}", "a start inside")
    drawing, spans = _draw(figure, moves, parts, axes, first, name)
    alt = html.escape(alt)
    drawing.set("aria-label", alt)
    width, height = (round(float(drawing.get(x)) * 4 / 3) for x in ("width", "height"))
    source = quote(_text(drawing), safe=" /=:;,.()'!?*+-_&@$~|")

    spec = {
        "inputs": [
            {k: getattr(i, k) for k in ("kind", "low", "high", "step", "log", "unit", "digits", "ticks")}
            for i in inputs
        ],
        "start": start, "rest": rest[0], "axes": spans, "parts": parts, "say": say,
        "notes": notes, "domain": domain, "drag": drags,
    }  # fmt: skip
    compiled = [
        json.dumps(name), program.javascript, rest[1].javascript if settle else "null",
        f"[{','.join(maps)}]", json.dumps(spec, ensure_ascii=False, separators=(",", ":")),
    ]  # fmt: skip
    script = f"(window.kl2dpoLive??=[]).push([{','.join(compiled)}])".replace("</", "<\\/")
    controls = "".join(
        f"<details><summary>{html.escape(label)}</summary>{fields}</details>\n" if label else fields
        for group in groups
        for label, folded in group.items()
        for fields in ["".join(i.control() for i in folded)]
    )
    buttons = "".join(
        f'<button type="button" data-{kind}="{html.escape(label)}">{sign}{html.escape(label)}</button>'
        for kind, sign, labels in [("play", "▶\ufe0e ", play), ("push", "", push)]
        for label in labels
    )
    buttons += '<button type="button" data-to="step">Step</button>' * bool(play)
    buttons += '<button type="button" data-to="start">Reset</button>'
    sentence = _written(say, first)
    # Room for the longest text, so that nothing below moves.
    told = [text for _, text in notes + domain] + ["No finite next step: this one stays."] * bool(maps)
    lines = -(-len(sentence) // 36), max([-(-len(text) // 40) for text in told], default=0)
    here = Path(__file__).parent
    style, code = ((here / f"live.{x}").read_text(encoding="utf-8") for x in ("css", "js"))
    plt.close(figure)
    return Live(
        f"""<style>{style}</style><script>{code}</script>
<div class="kl2dpo-live" data-live="{name}" data-lm-suppress-shortcuts="true">
<img src="data:image/svg+xml,{source}" alt="{alt}" width="{width}" height="{height}" style="background: #fff; max-width: 100%; height: auto">
<div class="live-panel"><p class="live-say" style="min-height: {1.5 * lines[0]}em">{html.escape(sentence)}</p>
<div class="live-controls" role="group" aria-label="Controls of the figure" style="display: none">
{controls}<div class="live-buttons">{buttons}</div>
<p class="live-note" style="min-height: {1.5 * lines[1]}em"></p></div>
<p class="live-heard" role="status"></p></div>
<script>{script}</script>
</div>""",
        program, rest, start, slots,
    )  # fmt: skip


def _part(id, program, figure, axes, artist, es):
    """What the script must know to move an artist; its expressions are outputs of the program."""

    def slots(es):
        many = isinstance(es, (list, tuple, np.ndarray, sp.MatrixBase))
        return [program.add(f"a move of {artist}", e) for e in (es if many else [es])]

    bars = isinstance(artist, BarContainer)
    owner = artist[0] if bars and artist else artist
    mine = getattr(owner, "axes", None)
    refuse(getattr(owner, "figure", None) is not figure or mine is None, "moves", artist,
           "an artist of an axes of the figure")  # fmt: skip
    if mine not in axes:
        scales = {mine.get_xscale(), mine.get_yscale()}
        refuse(mine.name != "rectilinear" or scales - {"linear", "log"}, "the axes", scales,
               "linear or logarithmic")  # fmt: skip
        axes.append(mine)
    part = {"id": id, "axes": axes.index(mine)}
    if isinstance(artist, (Line2D, Text)) and not isinstance(artist, Annotation):
        placed = artist.get_transform() == mine.transData
        refuse(not placed, "moves", artist, "an artist in the coordinates of the data")
    refuse(not bars and not isinstance(es, tuple), f"the move of {artist}", es, "a tuple")

    if bars:
        flat = int(artist.orientation == "horizontal")
        log = "log" in (mine.get_xscale() if flat else mine.get_yscale())
        odd = log and not all(isinstance(e, tuple) for e in es)
        refuse(odd, f"the move of {artist}", "a length, on a logarithmic axis", "pairs (low, high)")
        pairs = [e if isinstance(e, tuple) else (0, e) for e in es]
        refuse(len(pairs) != len(artist), "moves", f"{len(pairs)} lengths", f"{len(artist)}, of the bars")
        low, high = map(slots, zip(*pairs))
        part |= {"kind": "bars", "low": low, "high": high, "flat": flat}
        for k, bar in enumerate(artist):
            bar.set_gid(f"{id}-{k}")
        return part
    if isinstance(artist, Annotation):
        refuse(artist.get_text() or not artist.arrow_patch, "moves", artist, "an arrow without text")
        kind, n = "arrow", 2
        artist.arrow_patch.set_gid(id)
    elif isinstance(artist, Text):
        x, y, *text = es
        part |= {"kind": "text", "x": slots(x), "y": slots(y)}
        refuse("\n" in artist.get_text(), "moves", artist, "a text of one line")
        if text:
            numbers = {str(k): slot for k, slot in enumerate(slots(text[1:]))}
            part["say"] = _segments("a text", text[0], numbers)
        artist.set_gid(id)
        return part
    elif isinstance(artist, (Line2D, PolyCollection, Polygon)):
        kind = "line" if isinstance(artist, Line2D) else "fill"
        n = 3 if isinstance(artist, PolyCollection) else 2
        artist.set_gid(id)
    else:
        raise ValueError(f"{artist} cannot be moved, expected bars, a line, an area, an arrow or a text")
    part["kind"] = kind
    if len(es) == n + 2:
        *es, over, values = es
        refuse(not isinstance(over, sp.Symbol), f"the curve of {artist}", f"over {over!r}", "a symbol")
        got = [program.add(f"the curve of {artist}", (e, over, values)) for e in es]
    else:
        refuse(len(es) != n, f"the move of {artist}", f"{len(es)} entries", f"{n}, or {n + 2} for a curve")
        got = [slots(e) for e in es]
        odd = len({*map(len, got)}) > 1 or (kind == "arrow" and len(got[0]) != 2)
        refuse(odd, f"the move of {artist}", "points of unequal number", "x and y for each point")
    return part | dict(zip("xyz", got))


def _draw(figure, moves, parts, axes, out, name):
    """The drawing as an element with the artists in their places, and where its axes are."""

    def values(slots):
        return np.ravel([out[k] for k in slots] if isinstance(slots, list) else out[slots])

    hidden = {}
    for artist, part in zip(moves, parts):
        numbers = [values(part[k]) for k in ("x", "y", "z", "low", "high") if k in part]
        there = all(np.isfinite(x).all() for x in numbers) and out[part.get("shown", 0)] != 0
        there = there if "shown" in part else all(np.isfinite(x).all() for x in numbers)
        mine = axes[part["axes"]]
        if part["kind"] == "bars":
            for k, (bar, low, high) in enumerate(zip(artist, *numbers)):
                good = np.isfinite(high - low) and (there or "shown" not in part)
                hidden[f"{part['id']}-{k}"] = not good
                low, high = (low, high) if good else (0, 0)
                if part["flat"]:
                    bar.set(x=low, width=high - low)
                else:
                    bar.set(y=low, height=high - low)
            continue
        hidden[part["id"]] = not there
        # A hidden artist is drawn all the same, somewhere inside.
        middle = mine.transData.inverted().transform(mine.transAxes.transform((0.5, 0.5)))
        x, y = numbers[:2] if there else [np.full(len(x), m) for x, m in zip(numbers, middle)]
        if part["kind"] == "line":
            artist.set_data(x, y)
        elif part["kind"] == "arrow":
            artist.xy = middle
            artist.set_position(middle)
        elif part["kind"] == "text":
            artist.set_position((x[0], y[0]))
            if "say" in part:
                artist.set_text(_written(part["say"], out))
    with plt.rc_context({"svg.fonttype": "none"}):
        # The box of the figure: its parts are where matplotlib says that they are.
        svg = to_svg(figure, bbox_inches=None, transparent=True)
    mathtext = re.search(r"<!-- (.*?) -->", svg)
    refuse(mathtext, "a text", mathtext and repr(mathtext[1]), "one without mathtext, such as β")
    svg = re.sub(r"#(?:1f2937|4b5563|000000)\b", "currentColor", svg)
    svg = svg.replace("stroke: #e5e7eb", "stroke: currentColor; stroke-opacity: 0.15")
    svg = svg.replace("#ffffff", "var(--live-ground, #fff)")
    for k, colour in enumerate(COLOURS):
        svg = svg.replace(f"#{colour}", f"var(--live-{k}, #{colour})")
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg).replace("xlink:href", "href")
    root = ElementTree.fromstring(svg)

    # Identifiers are of this figure, and only those that something refers to.
    meant = {*re.findall(r"(?:url\(|href=\")#([\w-]+)", svg)} | hidden.keys()
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id" and not value.startswith(f"{name}-m"):
                element.set(key, f"{name}-{value}")
            element.set(key, re.sub(r"^((?:url\()?)#", rf"\1#{name}-", element.get(key)))
        if element.get("id", "").removeprefix(f"{name}-") not in meant and element.get("id") not in meant:
            element.attrib.pop("id", None)
    for style in root.iter(f"{SVG}defs"):
        for rule in style.findall(f"{SVG}style"):  # it would hold for the whole page
            style.remove(rule)
    root.attrib |= {
        "role": "img", "color": "#1f2937", "fill": "currentColor", "font-family": "system-ui, sans-serif",
        "stroke-linejoin": "round", "stroke-linecap": "butt",
    }  # fmt: skip
    for size in ("width", "height"):
        root.set(size, root.get(size).removesuffix("pt"))

    high = figure.get_figheight() * 72
    spans = []
    for mine in axes:
        box = mine.bbox.transformed(figure.dpi_scale_trans.inverted()).get_points() * 72
        (left, bottom), (right, top) = box
        spans.append([
            [round(float(a), 3), round(float(b), 3), *map(float, np.log10(lim) if log else lim), int(log)]
            for a, b, lim, log in [
                (left, right, mine.get_xlim(), mine.get_xscale() == "log"),
                (high - bottom, high - top, mine.get_ylim(), mine.get_yscale() == "log"),
            ]
        ])  # fmt: skip

    def at(span, u):
        p, q, low, high, log = span
        return p + (q - p) * ((np.log10(u) if log else np.asarray(u)) - low) / (high - low)

    groups = {element.get("id"): element for element in root.iter(f"{SVG}g")}
    for artist, part in zip(moves, parts):
        X, Y = spans[part["axes"]]
        if part["kind"] == "bars":
            across, sizes = (Y, ("y", "height")) if part["flat"] else (X, ("x", "width"))
            part["box"] = [
                [round(float(at(across, u)), 3) for u in (a, a + b)]
                for bar in artist
                for a, b in [[getattr(bar, f"get_{size}")() for size in sizes]]
            ]
        elif part["kind"] == "text":
            x, y = artist.get_position()
            part["from"] = [round(float(at(X, x)), 3), round(float(at(Y, y)), 3)]
        elif part["kind"] == "line":
            marks = len([*groups[part["id"]].iter(f"{SVG}use")])
            points = len(values(part["x"]))
            refuse(marks not in (0, points), f"the start of {artist}", "outside the axes", "inside")
        else:
            # matplotlib writes areas and arrows in more than one form; here they have one.
            points = [(at(X, x), at(Y, y)) for x, y in zip(values(part["x"]), values(part["y"]))]
            if "z" in part:
                points += [(at(X, x), at(Y, z)) for x, z in zip(values(part["x"]), values(part["z"]))][::-1]
            group = groups[part["id"]]
            forms = [*group.iter(f"{SVG}use"), *group.iter(f"{SVG}path")]
            style = next(e.get("style") for e in forms if e.get("style"))
            clip = next((e.get("clip-path") for e in group.iter() if e.get("clip-path")), None)
            for child in [*group]:
                group.remove(child)
            if part["kind"] == "arrow":
                shaft, head = _arrow(*points)
                d = _d(shaft) + _d(head, end="Z")
                stroke = re.search(r"stroke: ([^;]*)", style)[1]
                style = style.replace("fill: none", f"fill: {stroke}")
            else:
                d = _d(points, end="Z")
            given = {"d": d, "style": style} | ({"clip-path": clip} if clip else {})
            ElementTree.SubElement(group, f"{SVG}path", given)
    for id, away in hidden.items():
        if away:
            groups[id].set("style", "visibility: hidden")
    return root, spans


def _text(element):
    ElementTree.register_namespace("", SVG[1:-1])
    return re.sub(r"\s+", " ", ElementTree.tostring(element, encoding="unicode")).replace("> <", "><")
