"""Figures as text."""

import hashlib
import io
import re


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
