"""Figures as text."""

import hashlib
import io
import re

# The colours of the style, and a darker one for letters, have a twin for dark pages (live.css).
COLOURS = ["2f6690", "c8502f|a23a1c", "3a7d44|2c6135", "a87b00|7d5b00", "7a4f9a", "6b7280"]


def to_svg(figure, **options):
    """A figure as an SVG element: the same code gives the same text on every machine.

    Coordinates are rounded to a thousandth of a point. The digits behind it cannot
    be seen, and the last ones differ between processors. Scales, which multiply, keep theirs.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    **options
        Of ``savefig``, in place of a tight box around the figure.

    Returns
    -------
    str

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> figure, axes = plt.subplots()
    >>> to_svg(figure)[:5]
    '<svg '
    >>> plt.close(figure)
    """
    file = io.StringIO()
    # Without this, matplotlib writes the date and its version into every file.
    nothing = dict.fromkeys(["Date", "Creator", "Format", "Type"])
    options = options or {"bbox_inches": "tight"}
    figure.savefig(file, format="svg", metadata=nothing, **options)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    # Numbers only, not parts of names and colours; adding 0.0 makes -0.0 zero.
    number = re.compile(r"(?<![\w.#-])(?<!scale\()-?\d+(\.\d+)?(?![\w.-])")
    svg = re.sub(
        r"<[^>]*>",  # not in texts
        lambda tag: number.sub(lambda x: f"{round(float(x[0]), 3) + 0.0:.10g}", tag[0]),
        svg,
    )
    # Identifiers are hashes of unrounded digits: make them from the rounded picture.
    for k, name in enumerate(dict.fromkeys(re.findall(r' id="(\w*[0-9a-f]{10})"', svg))):
        svg = svg.replace(name, f"\0{k}")
    return svg.replace("\0", f"f{hashlib.sha256(svg.encode()).hexdigest()[:8]}-")


def _grey(match):
    """A grey as far from the page's ground as it was from white; another colour as it is."""
    levels = bytes.fromhex(match[1])
    if max(levels) - min(levels) > 20:
        return match[0]
    share = min(100, round((255 - sum(levels) / 3) / 2.15))  # the style's black is no deeper
    return f"color-mix(in srgb, currentColor {share}%, var(--live-ground, #fff))"


def in_colours_of_page(svg):
    """The drawing with the page's colours for text (`currentColor`), ground, curves and greys.

    Examples
    --------
    >>> in_colours_of_page('<path style="fill: #000000; stroke: #c8502f"/>')
    '<path style="fill: currentColor; stroke: var(--live-1, #c8502f)"/>'
    """
    svg = re.sub(r"#(?:1f2937|4b5563|000000)\b", "currentColor", svg)
    svg = svg.replace("stroke: #e5e7eb", "stroke: currentColor; stroke-opacity: 0.15")
    for k, colours in enumerate(COLOURS):
        svg = re.sub(rf"#({colours})\b", rf"var(--live-{k}, #\1)", svg)
    svg = svg.replace("#ffffff", "var(--live-ground, #fff)")
    return re.sub(r"(?<=: )#(\w{6})\b", _grey, svg)
