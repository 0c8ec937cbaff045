"""The look of the course's figures, a triangle of policies, and figures that a reader moves.

This module needs matplotlib and SymPy, so ``import kl2dpo`` does not import it.
"""

import base64

import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats

from kl2dpo.figures import diagrams
from kl2dpo.figures._compile import stored
from kl2dpo.figures._live import choice, count, live, slide
from kl2dpo.figures._svg import to_svg

__all__ = ["choice", "count", "diagrams", "live", "slide", "stored", "triangle"]
__all__ += ["use_book_style"]


def _to_outputs(figure, **_):
    """SVG, and the same as an image in HTML: what sanitises an output drops one and keeps the other."""
    svg = to_svg(figure)  # once: to draw a figure moves its parts a little
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
