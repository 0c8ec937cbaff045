"""Live figures: matplotlib draws the artists, expressions of SymPy say where they stand."""

import html
import json
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import sympy as sp
from IPython.display import HTML
from sympy.logic.boolalg import Boolean

from kl2dpo._checks import as_number, refuse
from kl2dpo.figures._artists import SVG, describe, draw
from kl2dpo.figures._compile import Program
from kl2dpo.figures._words import segments, written

REST = 10_000  # Steps within which a map that is run to rest must come to rest.


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
        refuse(not self.label.strip(), f"the label of {self.symbol}", repr(self.label), "its name")
        low = as_number(f"low of {name}", self.low, *[(">", 0)] * self.log)
        high = as_number(f"high of {name}", self.high, (">", low))
        step = as_number(f"step of {name}", self.step, (">", 0))
        start = as_number(f"start of {name}", self.start, (">=", low), ("<=", high))
        for word, x in [("start", start), ("high", high)]:
            on_step = (
                float(f"{x:.3g}") == x if self.log else abs((x - low) / step % 1 - 0.5) > 0.499
            )
            expected = "a number of three digits" if self.log else f"{low} plus steps of {step}"
            refuse(not on_step, f"{word} of {name}", x, expected)

    @property
    def digits(self):
        return max(0, -int(Decimal(str(self.step)).normalize().as_tuple().exponent))

    @property
    def ticks(self):
        """Positions of a logarithmic range: one is about 2 %, which three digits can show."""
        return round(np.log(self.high / self.low) / np.log(1.02)) if self.log else 0

    @property
    def spec(self):
        names = "kind", "low", "high", "step", "log", "unit", "digits", "ticks"
        return {name: getattr(self, name) for name in names}

    def control(self):
        """The control in HTML, which the script gives the rest."""
        label = f"<span>{html.escape(self.label)}</span>"
        ends = (0, self.ticks, 1) if self.log else (self.low, self.high, self.step)
        bounds = ' min="{}" max="{}" step="{}" autocomplete="off"'.format(*ends)
        field = {
            "range": f'{label}<input type="range"{bounds}><span aria-hidden="true"></span>',
            "number": f'{label}<input type="number" inputmode="numeric"{bounds}>',
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


class Live(HTML):
    """A figure in HTML, and what its formulas say at other values of its inputs and states."""

    def __init__(self, data, program, rest, steps, inputs, start, numbers):
        super().__init__(data)
        self.program, self.rest, self.steps = program, rest, steps
        self.inputs, self.start, self.numbers = inputs, start, numbers

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
        Of `slide`, `count`, `choice`; those in a dict are folded under its key.
    say : str
        The sentence below, with fields like ``{kl:.3f}``, each one a keyword argument.
    name : str
        Unique in the page: small letters, digits and hyphens.
    alt : str
        What one sees in the figure, for those who do not see it.
    state : dict, optional
        Symbols that only maps change, with their start.
    play, push : dict, optional
        Text of a button, a verb, and the map {symbol: its next value} that it repeats, or does
        once. *Rewind* undoes all maps and keeps what the reader has chosen.
    settle : dict, optional
        Symbol: (start, next value). This map is run to rest on every change; without rest the
        symbols are NaN.
    drag : dict, optional
        Artist with one point: the symbols of the `slide` that its x and its y depend on, or None.
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
    >>> figure, axes = plt.subplots(subplot_kw={"xlim": (0, 1), "ylim": (0, 1)})
    >>> (dot,) = axes.plot(0, 0, "o")
    >>> square = live(figure, {dot: (a, a**2)}, [slide(a, "Side", 0, 1, 0.5)],
    ...               "Area {area:.2f}.", name="square", alt="A dot on a parabola.", area=a**2)
    >>> square.at(), square.at(a=0.2)["area"].__round__(6)
    ({'area': 0.25}, 0.04)
    """
    maps = state, play, push, settle, drag, shown, notes, domain
    state, play, push, settle, drag, shown, notes, domain = map(dict, maps)
    good = re.fullmatch("[a-z][a-z0-9-]*", name)
    refuse(not good, "name", repr(name), "small letters, digits and hyphens")
    folds = (i if isinstance(i, dict) else {"": [i]} for i in inputs)
    groups = [(label, folded) for fold in folds for label, folded in fold.items()]
    inputs = [i for _, folded in groups for i in folded]
    odd = [i for i in inputs if not isinstance(i, _Input)]
    refuse(bool(odd), "inputs", odd[:1], "a slide, count or choice")
    free = [*(i.symbol for i in inputs), *state]
    symbols = [*free, *settle]
    refuse(len({*symbols}) < len(symbols), "symbols", symbols, "each one once")
    start = [i.start for i in inputs] + [as_number(f"state {s}", x) for s, x in state.items()]

    # The program has an output for each number that something shows.
    program, where = Program(symbols), {}
    axes: list = []
    parts: list = []
    for artist, es in moves.items():
        where[artist] = describe(program, figure, axes, artist, es)
        parts += where[artist]
    for k, (_, part) in enumerate(parts):
        part |= {"id": f"{name}-{k}", "shown": None}

    def truth(what, condition):
        good = isinstance(condition, (Boolean, bool)) and not isinstance(condition, sp.Symbol)
        refuse(not good, what, repr(condition), "a relation of SymPy")
        return program.add(what, sp.Piecewise((1, condition), (0, True)))

    for artist, condition in shown.items():
        refuse(artist not in where, "shown", artist, "an artist of moves")
        slot = truth("shown", condition)
        for _, part in where[artist]:
            part["shown"] = slot
    slots = {key: program.add(key, e) for key, e in numbers.items()}
    notes = [[truth("notes", c), text] for c, text in notes.items()]
    domain = [[truth("domain", c), text] for c, text in domain.items()]
    say = segments("say", say, slots)
    steps = {
        label: _map(f"the map {label!r}", symbols, free, c) for label, c in (play | push).items()
    }
    _, settling = _map("settle", symbols, [*settle], {s: e for s, (_, e) in settle.items()})
    rest = [as_number(f"settle {s}", x) for s, (x, _) in settle.items()], settling
    used = set().union(
        *(p.free_symbols for p in [program, rest[1], *(p for _, p in steps.values())])
    )
    odd = [s for s in symbols if s not in used]
    refuse(bool(odd), "inputs and states", odd[:1], "symbols that occur in an expression")
    slides = {i.symbol: k for k, i in enumerate(inputs) if i.kind == "range"}
    drags = []
    for artist, pair in drag.items():
        part = where.get(artist, [(None, {})])[0][1]
        x = part["x"] if part.get("kind") == "line" else []
        refuse(not isinstance(x, list) or len(x) != 1, "drag", artist, "a line of one point")
        odd = [s for s in pair if s is not None and s not in slides]
        refuse(bool(odd), "drag", odd[:1], "the symbols of slides, which keys move too")
        for [slot], s in zip((part["x"], part["y"]), pair):
            still = s is not None and s not in program.outputs[slot].free_symbols
            refuse(still, "drag", s, "a symbol that its place depends on")
        drags.append([[p for _, p in parts].index(part), *map(slides.get, pair)])

    formulas = program.javascript  # refuses more than NumPy does
    first = program.numpy([*start, *_rest(rest, start)])
    bad = [text for slot, text in domain if not first[slot]]
    refuse(bool(bad), "the start", bad[:1], "one in the domain")
    drawing, spans = draw(figure, parts, axes, first)
    plt.close(figure)
    sentence = written(say, first)
    spec = {
        "inputs": [i.spec for i in inputs], "start": start, "axes": spans,
        "rest": rest[0], "restOn": [k for k, s in enumerate(free) if s in settling.free_symbols],
        "parts": [part for _, part in parts], "say": say, "notes": notes, "domain": domain,
        "drag": drags,
    }  # fmt: skip
    compiled = [
        _json(name), formulas, rest[1].javascript if settle else "null",
        "[" + ",".join(f"[{_json(k)},{at},{p.javascript}]" for k, (at, p) in steps.items()) + "]",
        _json(spec),
    ]  # fmt: skip
    script = f"(window.kl2dpoLive??=[]).push([{','.join(compiled)}])".replace("</", "<\\/")
    return Live(
        _page(name, drawing, alt, sentence, notes + domain, groups, play, push, script),
        program, rest, steps, inputs, start, slots,
    )  # fmt: skip


def _json(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _map(name, symbols, free, change):
    """Of a map {symbol: its next value}, the places of what it changes, and the program."""
    odd = [s for s in change if s not in free]
    refuse(bool(odd), name, f"of {odd[:1]}", f"of inputs and states: {free}")
    step = Program(symbols)
    for symbol, e in change.items():
        step.add(f"the next {symbol}", e)
    return [symbols.index(s) for s in change], step


def _page(name, drawing, alt, sentence, told, groups, play, push, script):
    """The figure in HTML. Without its script it is a still picture and a sentence."""
    drawing.attrib |= {"role": "img", "aria-label": alt}
    alt, sentence = html.escape(alt), html.escape(sentence)
    ElementTree.register_namespace("", SVG[1:-1])
    source = ElementTree.tostring(drawing, encoding="unicode")
    source = quote(re.sub("[ \n]+", " ", source), safe=" /=:;,.()'!?*+-_@$~|")
    width, height = (round(float(drawing.get(size)) * 4 / 3) for size in ("width", "height"))
    controls = ""
    for label, folded in groups:
        fields = "".join(i.control() for i in folded)
        fold = f'<summary>{html.escape(label)}</summary><div class="live-fields">{fields}</div>'
        fold = f"<details>{fold}</details>\n"
        controls += fold if label else fields
    buttons = ""
    for label in map(html.escape, play):
        buttons += f'<button type="button" data-play="{label}">▶\ufe0e {label}</button>'
        buttons += f'<button type="button" data-push="{label}">{label} one step</button>'
    for label in map(html.escape, push):
        buttons += f'<button type="button" data-push="{label}">{label}</button>'
    maps = bool(play or push)
    buttons += '<button type="button" data-to="mine">Rewind</button>' * maps
    buttons += f'<button type="button" data-to="start">Reset{" all" * maps}</button>'
    # Room for the longest text, so that nothing below it moves.
    notes = [len(text) for _, text in told] + [40] * maps
    room = [
        f"min-height: {1.5 * -(-n // 38)}em" for n in (len(sentence) + 4, max(notes, default=0))
    ]
    style, code = (Path(__file__).with_name(f"live.{x}").read_text("utf-8") for x in ("css", "js"))
    return f"""<style>{style}</style><script>{code}</script>
<div class="kl2dpo-live" data-live="{name}" data-lm-suppress-shortcuts="true">
<img src="data:image/svg+xml,{source}" alt="{alt}" width="{width}" height="{height}" style="background: #fff">
<div class="live-panel"><p class="live-say" style="{room[0]}">{sentence}</p>
<div class="live-controls" role="group" aria-label="Controls of the figure" style="display: none">
{controls}<div class="live-buttons">{buttons}</div>
<p class="live-note" style="{room[1]}"></p></div><p class="live-heard" role="status"></p></div>
<script>{script}</script>
</div>"""
