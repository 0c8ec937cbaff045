"""The artists of a live figure: what the script must know of them, and the still drawing."""

import re
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import sympy as sp
from matplotlib.collections import PolyCollection
from matplotlib.container import BarContainer
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from matplotlib.text import Annotation, Text

from kl2dpo._checks import refuse
from kl2dpo.figures._svg import in_colours_of_page, to_svg
from kl2dpo.figures._words import segments, written

SVG = "{http://www.w3.org/2000/svg}"


def describe(program, figure, axes, artist, es):
    """The parts of an artist, with their places in the program: [(artist, {"kind": ..., ...})]."""
    what = f"the move of {artist}"
    bars = list(artist) if isinstance(artist, BarContainer) else []
    first = bars[0] if bars else artist
    alien = getattr(first, "axes", None) not in figure.axes
    refuse(alien, "moves", artist, "artists in the axes of the figure")
    mine = first.axes
    if mine not in axes:
        scales = {mine.name, mine.get_xscale(), mine.get_yscale()}
        refuse(scales - {"rectilinear", "linear", "log"}, "axes", scales, "linear or log")
        axes.append(mine)
    part = {"axes": axes.index(mine)}

    def slots(es):
        many = isinstance(es, (list, tuple, np.ndarray, sp.MatrixBase))
        return [program.add(what, e) for e in (es if many else [es])]

    if bars:
        flat = artist.orientation == "horizontal"
        log = (mine.get_xscale() if flat else mine.get_yscale()) == "log"
        bad = not isinstance(es, (list, tuple, np.ndarray, sp.MatrixBase)) or len(es) != len(bars)
        refuse(bad, what, es, f"a list of {len(bars)}, one for each bar")
        refuse(log and not all(isinstance(e, tuple) for e in es), what, es, "pairs, on a log axis")
        pairs = [e if isinstance(e, tuple) else (0, e) for e in es]
        ends = map(slots, pairs)
        return [(b, part | {"kind": "bar", "x" if flat else "y": e}) for b, e in zip(bars, ends)]

    refuse(not isinstance(es, tuple), what, es, "a tuple")
    if isinstance(artist, Annotation):
        bad = bool(artist.get_text()) or artist.arrow_patch is None
        refuse(bad, "moves", artist, "an arrow without text")
        kind, n = "arrow", 2
        part["gaps"] = [float(getattr(artist.arrow_patch, f"shrink{end}")) for end in "AB"]
    elif isinstance(artist, (Line2D, Text)):
        kind, n = ("line" if isinstance(artist, Line2D) else "text"), 2
        bad = artist.get_transform() != mine.transData
        refuse(bad, "moves", artist, "an artist in the coordinates of the data")
    elif isinstance(artist, (PolyCollection, Polygon)):
        kind, n = "area", (3 if isinstance(artist, PolyCollection) else 2)
    else:
        refuse(True, "moves", artist, "bars, lines, areas, arrows and texts")
    if kind == "text":
        bad = "\n" in artist.get_text() or artist.get_rotation() or len(es) < 2
        refuse(bad, what, es, "(x, y), or (x, y, format, numbers), of a text on one level line")
        if len(es) > 2:
            numbers = {str(k): slot for k, slot in enumerate(slots(es[3:]))}
            part["say"] = segments("a text", es[2], numbers)
        got = [slots(e) for e in es[:2]]
    elif len(es) == n + 2:
        *es, over, values = es
        refuse(not isinstance(over, sp.Symbol), what, f"over {over!r}", "over a symbol")
        got = [program.add(what, (e, over, values)) for e in es]
    else:
        refuse(len(es) != n, what, f"of {len(es)} entries", f"{n}, or {n + 2} for a curve")
        got = [slots(e) for e in es]
    points = {len(slots) for slots in got if isinstance(slots, list)}
    bad = (
        len(points) > 1 or (kind == "arrow" and points != {2}) or (kind == "text" and points != {1})
    )
    refuse(bad, what, f"of {sorted(points)} points", "as many x as y: 2 for an arrow, 1 for a text")
    return [(artist, part | {"kind": kind} | dict(zip("xyz", got)))]


def _shaft_and_head(ends, gaps):
    """An arrow with a head of seven points at most, and a gap at tail and tip, as in the script."""
    tail, tip = ends
    length = max(float(np.hypot(*(tip - tail))), 1e-9)
    along = (tip - tail) / length
    start, end = (gaps[0], length - gaps[1]) if length > sum(gaps) else (0, 0)
    base = max(end - 7, start)
    side = along[::-1] * [1, -1] * 0.42 * (end - base)
    start, base, end = (tail + along * t for t in (start, base, end))
    return [start, base], [base + side, end, base - side]


def _path(points):
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in points)


def _spans(mine, height):
    """Where x and y of an axes begin and end in the drawing, in points from its upper left corner."""
    box = mine.get_window_extent().transformed(mine.figure.dpi_scale_trans.inverted())
    left, bottom, right, top = (float(u) * 72 for u in box.extents)
    ends = [(left, right), (height - bottom, height - top)]
    limits = [(mine.get_xlim(), mine.get_xscale()), (mine.get_ylim(), mine.get_yscale())]
    return [
        [*(round(u, 3) for u in pair), *map(float, np.log10(lim) if log else lim), int(log)]
        for pair, (lim, log) in zip(ends, [(lim, scale == "log") for lim, scale in limits])
    ]


def _at(span, u):
    start, end, low, high, log = span
    return start + (end - start) * ((np.log10(u) if log else u) - low) / (high - low)


def draw(figure, parts, axes, out):
    """The still drawing, an element of SVG, with the artists where the outputs say; and its axes.

    Each part gets what the script needs besides: the sides of a bar, the first place of a text.
    """

    def values(slots):
        return np.ravel([out[k] for k in slots] if isinstance(slots, list) else out[slots])

    hidden = set()
    for artist, part in parts:
        artist.set_in_layout(False)  # or the axes would depend on the start
        numbers = {k: values(part[k]) for k in "xyz" if k in part}
        mine = artist.axes
        middle = mine.transData.inverted().transform(mine.transAxes.transform((0.5, 0.5)))
        there = part["shown"] is None or out[part["shown"]]
        there = there and all(np.isfinite(u).all() for u in numbers.values())
        if not there:
            # Drawn all the same, somewhere inside.
            hidden.add(part["id"])
            numbers = {k: np.full(len(u), middle[int(k != "x")]) for k, u in numbers.items()}
        if part["kind"] == "bar":
            for k, u in numbers.items():
                artist.set(**{k: u[0], "width" if k == "x" else "height": u[1] - u[0]})
        elif part["kind"] == "line":
            artist.set_data(numbers["x"], numbers["y"])
        elif part["kind"] == "text":
            artist.set_position((numbers["x"][0], numbers["y"][0]))
            artist.set_text(written(part["say"], out) if "say" in part else artist.get_text())
        elif part["kind"] == "arrow":
            artist.xy = middle  # outside, matplotlib would not draw it
            artist.set_position(middle)
        (artist.arrow_patch if part["kind"] == "arrow" else artist).set_gid(part["id"])
    # All points of a path; and no tight box, so that the axes are where matplotlib says.
    with plt.rc_context({"svg.fonttype": "none", "path.simplify": False}):
        svg = to_svg(figure, bbox_inches=None, transparent=True)
    root = _themed(svg, parts[0][1]["id"].rpartition("-")[0])

    height = float(root.get("height"))
    spans = [_spans(mine, height) for mine in axes]
    groups = {group.get("id"): group for group in root.iter(f"{SVG}g")}
    for artist, part in parts:
        X, Y = spans[part["axes"]]
        group = groups[part["id"]]
        if part["id"] in hidden:
            group.set("style", "visibility: hidden")
        if part["kind"] == "bar":
            k, size, span = ("y", "height", Y) if "x" in part else ("x", "width", X)
            start = getattr(artist, f"get_{k}")()
            ends = start, start + getattr(artist, f"get_{size}")()
            part["sides"] = [round(float(_at(span, u)), 3) for u in ends]
        elif part["kind"] == "text":
            part["from"] = [round(float(_at(*p)), 3) for p in zip((X, Y), artist.get_position())]
        elif part["kind"] == "line":
            marked = str(artist.get_marker()) not in ("None", "none", "", " ")
            lost = len([*group.iter(f"{SVG}use")]) != len(values(part["x"])) * marked
            refuse(lost, f"the start of {artist}", "outside", "within the limits of its axes")
        else:
            # matplotlib writes areas and arrows in more than one form; here they have one.
            x, y, z = (values(part.get(k, [])) for k in "xyz")
            outline = [*zip(_at(X, x), _at(Y, y)), *[*zip(_at(X, x), _at(Y, z))][::-1]]
            forms = [*group.iter(f"{SVG}use"), *group.iter(f"{SVG}path")]
            given = {"d": _path(outline) + "Z"}
            given["style"] = next(form.get("style") for form in forms if form.get("style"))
            if part["kind"] == "arrow":
                shaft, head = _shaft_and_head(np.array(outline), part["gaps"])
                given["d"] = _path(shaft) + _path(head) + "Z"
                [colour] = re.findall(r"stroke: ([^;]*)", given["style"])
                given["style"] = given["style"].replace("fill: none", f"fill: {colour}")
            for element in group.iter():
                given |= {k: v for k, v in element.attrib.items() if k == "clip-path"}
            for child in [*group]:
                group.remove(child)
            ElementTree.SubElement(group, f"{SVG}path", given)
    return root, spans


def _themed(svg, name):
    """The drawing in the colours and the font of the page around it, with identifiers of its own."""
    mathtext = re.search(r"<!-- (.*?) -->", svg)
    refuse(mathtext, "a text", mathtext and repr(mathtext[1]), "no mathtext, but letters such as β")
    svg = in_colours_of_page(svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg).replace("xlink:href", "href")
    # Matplotlib's rule for all elements would hold for the whole page.
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    # Identifiers that nothing refers to are left out.
    meant = re.findall(r"(?:url\(|href=\")#([\w-]+)", svg)
    svg = re.sub(r'((?:url\(|href=")#)', rf"\g<1>{name}-", svg)
    svg = re.sub(
        r' id="([\w.-]+)"',
        lambda x: f' id="{name}-{x[1]}"' if x[1] in meant else x[0] * x[1].startswith(f"{name}-"),
        svg,
    )
    root = ElementTree.fromstring(re.sub(r">\s+<", "><", svg))
    for size in ("width", "height"):
        root.set(size, root.get(size, "").removesuffix("pt"))
    # What an image has by itself, and an element takes from the page.
    root.attrib |= {
        "color": "#1f2937",
        "fill": "currentColor",
        "font-family": "system-ui, sans-serif",
    }
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt"}
    return root
