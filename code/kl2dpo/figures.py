"""The look of the course's figures, a triangle of policies, and a slider that needs no server.

This module needs matplotlib, so ``import kl2dpo`` does not import it.
"""

import base64
import hashlib
import html
import io
import re
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats

__all__ = ["slider", "triangle", "use_book_style"]

_SVG = "http://www.w3.org/2000/svg"


def _to_svg(figure):
    """A figure as an SVG element: the same code gives the same text on every machine.

    Coordinates are rounded to a thousandth of a point. The digits behind it cannot
    be seen, and the last ones differ between processors. Scales, which multiply, keep theirs.

    Parameters
    ----------
    figure : matplotlib.figure.Figure

    Returns
    -------
    str

    Examples
    --------
    >>> figure, axes = plt.subplots()
    >>> _to_svg(figure)[:5]
    '<svg '
    >>> plt.close(figure)
    """
    file = io.StringIO()
    # Without this, matplotlib writes the date and its version into every file.
    nothing = dict.fromkeys(["Date", "Creator", "Format", "Type"])
    figure.savefig(file, format="svg", bbox_inches="tight", metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    # Numbers only, not parts of names and colours; adding 0.0 makes -0.0 zero.
    number = re.compile(r"(?<![\w.#-])(?<!scale\()-?\d+(\.\d+)?(?![\w.-])")
    svg = number.sub(lambda match: f"{round(float(match[0]), 3) + 0.0:.10g}", svg)
    # Identifiers are hashes of unrounded digits: make them from the rounded picture.
    for k, name in enumerate(dict.fromkeys(re.findall(r' id="(\w*[0-9a-f]{10})"', svg))):
        svg = svg.replace(name, f"\0{k}")
    return svg.replace("\0", f"f{hashlib.sha256(svg.encode()).hexdigest()[:8]}-")


def _to_outputs(figure, **_):
    """SVG, and the same as an image in HTML: what sanitises an output drops one and keeps the other."""
    svg = _to_svg(figure)  # once: to draw a figure moves its parts a little
    data = base64.b64encode(svg.encode()).decode()
    alt = "The figure that the text describes, above its caption"
    image = f'<img alt="{alt}" src="data:image/svg+xml;base64,{data}"/>'
    return {"image/svg+xml": svg, "text/html": image}


def use_book_style():
    """Draw the figures of this notebook as the course draws them: its style, as SVG.

    SVG is sharp at every size, and it is text: a test can compare it. An image in HTML
    stands beside it, for a notebook without trust and for GitHub.

    Examples
    --------
    >>> use_book_style()
    >>> plt.rcParams["svg.hashsalt"]
    'kl2dpo'
    """
    plt.style.use("kl2dpo.book")
    set_matplotlib_formats()  # none of its own
    if shell := get_ipython():
        shell.display_formatter.mimebundle_formatter.for_type(Figure, _to_outputs)


def triangle(axes, names="ABC"):
    r"""Make the axes a triangle, in which each point is a policy on three answers.

    The policy :math:`\pi` stands at :math:`\sum_y \pi(y)\, c_y`, with the corners
    :math:`c_1 = (0, 0)`, :math:`c_2 = (1, 0)`, :math:`c_3 = (\tfrac12, \tfrac{\sqrt 3}{2})`.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    names : sequence of three str, default "ABC"
        Names of the corners: lower left, lower right, top.

    Returns
    -------
    callable
        From policies, shape (..., 3), to the two arrays of their x and y, each of shape (...).

    Examples
    --------
    >>> figure, axes = plt.subplots()
    >>> place = triangle(axes)
    >>> x, y = place([[1, 0, 0], [0.25, 0.25, 0.5]])
    >>> x.round(3), y.round(3)
    (array([0. , 0.5]), array([0.   , 0.433]))
    >>> plt.close(figure)
    """
    corners = np.array([[0, 0], [1, 0], [0.5, 0.75**0.5]])
    axes.fill(*corners.T, color="#d1d5db", zorder=0)
    for name, corner in zip(names, corners):
        x, y = corner + (corner - corners.mean(axis=0)) * 0.07
        axes.text(x, y, name, ha="center", va="center", size="large")
    axes.axis("off")
    axes.set_aspect("equal")
    return lambda policies: np.moveaxis(np.asarray(policies) @ corners, -1, 0)


def slider(figure, states, *, name, label, alt, start=0):
    """HTML of a figure of which a slider shows one state at a time.

    All states are drawn in one SVG, and the slider shows the artists of one of
    them. The result is a single piece of HTML with no outside part: it works in a
    static page and in JupyterLab (which leaves it the arrow keys), by mouse and by
    keyboard. Without JavaScript, and in print, it is a still picture.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure, with the artists of every state drawn.
    states : sequence of (str, sequence of Artist)
        For each position of the slider, the text that says what is shown, and the
        artists that are visible at this position only.
    name : str
        Identifier, unique in the page.
    label : str
        What the slider changes.
    alt : str
        What one sees in the figure, for those who do not see it.
    start : int, default 0
        Position at first, and in print.

    Returns
    -------
    str
        HTML, the same on every run.

    Raises
    ------
    ValueError
        If there are fewer than two states, or `start` is not one of their positions.

    Examples
    --------
    >>> figure, axes = plt.subplots()
    >>> low, high = axes.plot([0, 1], [0, 0]), axes.plot([0, 1], [1, 1])
    >>> page = slider(figure, [("low", low), ("high", high)], name="level",
    ...               label="Level", alt="A horizontal line.")
    >>> page.count("<input"), page.count('data-state="')
    (1, 2)
    >>> plt.close(figure)
    """
    if len(states) < 2:
        raise ValueError(f"states has {len(states)} state(s), expected at least 2")
    if start not in range(len(states)):
        raise ValueError(f"start is {start!r}, expected a position from 0 to {len(states) - 1}")
    position = {}
    for state, (_, artists) in enumerate(states):
        for k, artist in enumerate(artists):
            artist.set_gid(f"{name}-{state}-{k}")
            position[artist.get_gid()] = state

    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    svg = ElementTree.fromstring(_to_svg(figure))
    svg.set("role", "img")
    svg.set("aria-label", alt)
    svg.set("style", "max-width: 100%; height: auto; background: white")
    for element in svg.iter():
        shown_at = position.get(element.get("id"))
        if shown_at is not None:
            # In JavaScript: element.dataset.state
            element.set("data-state", str(shown_at))
            if shown_at != start:
                element.set("style", "display: none")
    drawing = ElementTree.tostring(svg, encoding="unicode")

    texts = html.escape("|".join(text for text, _ in states))
    first = html.escape(states[start][0])
    label = html.escape(label)
    return f"""<figure class="kl2dpo-slider" style="margin: 1em 0">
{drawing}
<div class="kl2dpo-slider-control">
<label for="{name}">{label}</label><br/>
<input type="range" id="{name}" style="width: 100%; max-width: 30em" data-lm-suppress-shortcuts="true"
 min="0" max="{len(states) - 1}" step="1" value="{start}" autocomplete="off"
 aria-valuetext="{first}" data-texts="{texts}" oninput="
 const text = this.dataset.texts.split('|')[this.value];
 const figure = this.closest('figure');
 figure.querySelectorAll('[data-state]').forEach(
 part => part.style.display = part.dataset.state === this.value ? '' : 'none');
 figure.querySelector('output').value = text;
 this.setAttribute('aria-valuetext', text);" />
</div>
<output for="{name}" aria-live="off">{first}</output>
</figure>"""
