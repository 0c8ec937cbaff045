r"""The diagrams of the course: boxes, circles and arrows, on a sheet measured in inches.

Each function draws one, and returns a ``matplotlib.figure.Figure``; in a notebook it is the last
line of a cell. The pieces of the DPO loss have their colours: the log-ratio is blue, :math:`\sigma`
red, and :math:`\beta` green.

Examples
--------
>>> ford()
<Figure size 500x190 with 1 Axes>
"""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from kl2dpo.kl import kl_divergence
from kl2dpo.rlhf import implicit_reward, optimal_policy, optimal_value

__all__ = ["chain", "course", "door", "ford", "leash", "never_met", "plane", "resistors"]
__all__ += ["two_paths"]

INK, GREY, RATIO, SIGMA, BETA = "#1f2937", "C5", "C0", "C1", "C2"
CENTRED: dict[str, Any] = {"ha": "center", "va": "center"}
DASHED = (0, (3, 2))


def _sheet(width, height):
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def _box(axes, x, y, text, color=INK, width=1.2, height=0.5):
    corner = x - width / 2, y - height / 2
    round_off = "round,pad=0,rounding_size=0.08"
    shape = {"boxstyle": round_off, "facecolor": "white", "edgecolor": color, "linewidth": 1.4}
    axes.text(x, y, text, color=color, **CENTRED)
    return axes.add_patch(FancyBboxPatch(corner, width, height, **shape))


def _node(axes, x, y, name, color=INK):
    axes.text(x, y, name, color=color, zorder=4, **CENTRED)
    return axes.add_patch(Circle((x, y), 0.17, facecolor="white", edgecolor=color, zorder=3))


def _arrow(axes, tail, head, color=INK, bend=0.0, style="-|>", **line):
    """From one shape, or point, to another."""
    ends = [shape if isinstance(shape, tuple) else _middle(shape) for shape in (tail, head)]
    shapes = [None if isinstance(shape, tuple) else shape for shape in (tail, head)]
    line = {"linewidth": 1.6, "mutation_scale": 13, "shrinkA": 2, "shrinkB": 2, **line}
    line |= {"patchA": shapes[0], "patchB": shapes[1], "connectionstyle": f"arc3,rad={bend}"}
    axes.add_patch(FancyArrowPatch(*ends, arrowstyle=style, color=color, **line))


def _middle(shape):
    box = shape.get_path().get_extents(shape.get_patch_transform())
    return (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2


def course():
    """The map of the course: three ideas, and where each stands in the DPO loss."""
    figure, axes = _sheet(5, 2.9)
    ratio = r"\ln\dfrac{\pi(y_%s)}{\pi_\mathrm{ref}(y_%s)}"
    ratios = f"${ratio % ('w', 'w')} - {ratio % ('l', 'l')}$"
    pieces = [(0.97, r"$-\ln$", INK), (1.33, r"$\sigma$", SIGMA), (1.62, r"$\beta$", BETA)]
    pieces += [(2.95, ratios, RATIO), *zip((1.47, 1.78, 4.06, 4.16), "([])", [INK] * 4)]
    for x, text, color in pieces:
        axes.text(x, 1.25, text, color=color, fontsize=14, **CENTRED)
    ideas = [(0.8, 1.33, "part II\nBradley–Terry", SIGMA)]
    ideas += [
        (2.3, 1.62, "part I\nthe leash", BETA),
        (4.1, 2.95, "part I\nKL divergence", RATIO),
    ]
    for x, target, text, color in ideas:
        _arrow(axes, _box(axes, x, 2.6, text, color, 1.3), (target, 1.52), color)
    derived = _box(axes, 1.3, 0.25, "part III: derive, test", width=1.9, height=0.36)
    _arrow(axes, (1.3, 0.98), derived)
    _arrow(axes, derived, _box(axes, 3.9, 0.25, "part IV: in practice", width=1.8, height=0.36))
    return figure


def two_paths():
    """RLHF in two stages above, DPO in one below, from the comparisons to the policy."""
    figure, axes = _sheet(5, 2.9)
    for y, name in [(2.1, "RLHF"), (0.35, "DPO")]:
        axes.text(0.05, y + 0.5, name, color=INK, weight="bold", va="center")
        comparisons = _box(axes, 0.62, y, "comparisons", SIGMA, 1.14)
        policy = _box(axes, 4.5, y, r"policy $\pi$", RATIO, 0.9)
        if name == "DPO":
            _arrow(axes, comparisons, policy, RATIO)
            axes.text(2.2, y + 0.2, "one fit", color=RATIO, **CENTRED)
    reward = _box(axes, 2.2, 2.1, "reward", SIGMA, 0.9)
    _arrow(axes, (1.19, 2.1), reward, SIGMA)
    _arrow(axes, reward, (4.05, 2.1), RATIO)
    axes.text(1.47, 2.3, "1. fit", color=SIGMA, **CENTRED)
    axes.text(3.35, 2.45, "2. optimise,\nwith samples", color=RATIO, **CENTRED)
    reference = _box(axes, 3.35, 1.2, r"leash $\beta$ to $\pi_\mathrm{ref}$", BETA, 1.45, 0.4)
    for y in (2.08, 0.37):
        _arrow(axes, reference, (3.35, y), BETA)
    return figure


def leash():
    """A tight leash and a loose one, each as long as its optimum is far from the reference."""
    figure, axes = _sheet(5, 2)
    for y, name, beta in [(1.55, "tight", 1.0), (0.6, "loose", 1 / np.log(16))]:
        nats = kl_divergence(optimal_policy([0.8, 0.2], [0, 1], beta), [0.8, 0.2])
        post = _box(axes, 0.35, y, r"$\pi_\mathrm{ref}$", width=0.5)
        end = 0.77 + 3 * nats
        policy = _node(axes, end, y, r"$\pi$", RATIO)
        _arrow(axes, post, policy, BETA, style="-", linewidth=2.5, shrinkA=0, shrinkB=0)
        _arrow(axes, policy, (end + 0.8, y), SIGMA)
        axes.text(end + 0.85, y, "reward", color=SIGMA, va="center")
        said = rf"{name}: $\beta$ = {beta:.2g}, {nats:.2f} nats"
        axes.text(0.1, y - 0.4, said, color=BETA, va="center")
    return figure


def never_met():
    """The comparisons of the thread as a graph: A met B and C, who never met each other."""
    figure, axes = _sheet(5, 1.6)
    b, a, c = (_node(axes, x, 1.1, name) for x, name in [(0.4, "B"), (2.5, "A"), (4.6, "C")])
    for x, one, other, won in [(1.45, b, a, "4 to 8"), (3.55, a, c, "3 to 5")]:
        _arrow(axes, one, other, RATIO, style="-")
        axes.text(x, 1.28, won, color=RATIO, **CENTRED)
    _arrow(axes, b, c, SIGMA, bend=0.3, style="-", linestyle=DASHED)
    odds = "never met, 4/8 × 3/5 = 3/10"
    axes.text(2.5, 0.25, odds, color=SIGMA, **CENTRED)
    return figure


def ford():
    """Ford's condition: arrows from winners to losers, and D, to whom none leads."""
    figure, axes = _sheet(5, 1.9)
    places = {"A": (2.4, 0.95), "B": (0.9, 1.6), "C": (0.9, 0.3), "D": (4.1, 0.95)}
    nodes = {name: _node(axes, *place, name) for name, place in places.items()}
    for winner, loser in zip("ABAC", "BACA"):
        _arrow(axes, nodes[winner], nodes[loser], RATIO, bend=0.18)
    _arrow(axes, nodes["D"], nodes["A"], SIGMA)
    axes.text(4.1, 0.5, "no arrow in", color=SIGMA, **CENTRED)
    return figure


def resistors():
    """Variances as resistors: in series from B over A to C, and what a match of B and C would add."""
    figure, axes = _sheet(5, 1.7)
    zigzag = np.array([0, 0, 1, -1, 1, -1, 1, 0, 0]) * 0.18
    along = np.array([0, 0.3, 0.34, 0.42, 0.5, 0.58, 0.66, 0.7, 1]) * 2.1
    for x, text in [(0.4, "3/8"), (2.5, "8/15")]:
        axes.plot(x + along, 1.25 + zigzag, color=RATIO, lw=1.8)
        axes.text(x + 1.05, 1.55, text, color=RATIO, **CENTRED)
    wire_x = np.concatenate([[0.4, 0.4], 1.45 + along[1:-1], [4.6, 4.6]])
    wire_y = np.concatenate([[1.25, 0.25], 0.25 + zigzag[1:-1], [0.25, 1.25]])
    axes.plot(wire_x, wire_y, color=SIGMA, lw=1.8, ls=DASHED)
    axes.text(2.5, 0.62, "169/30: one match", color=SIGMA, **CENTRED)
    for x, name in [(0.4, "B"), (2.5, "A"), (4.6, "C")]:
        _node(axes, x, 1.25, name)
    return figure


def chain():
    """A policy that writes token by token: each looks back, and the logarithms add."""
    figure, axes = _sheet(5, 2.1)
    prompt = _box(axes, 0.35, 1.3, "$x$", width=0.5)
    before, given = prompt, ""
    for k, (token, name) in enumerate([("1", "1"), ("1", "1"), ("3", "3"), ("0", "end")]):
        box = _box(axes, 1.4 + k * 1.08, 1.3, name, RATIO, 0.5)
        _arrow(axes, before, box, RATIO)
        if k:
            _arrow(axes, (0.35, 1.57), (1.4 + k * 1.08, 1.57), GREY, bend=-0.22, linewidth=1)
        term = rf"$\pi({token} \mid x{given})$"
        axes.text(1.4 + k * 1.08, 0.8, term, color=RATIO, **CENTRED)
        before, given = box, f", {token}"
    total = r"$\ln \pi(y \mid x)$: the sum of the four logarithms"
    axes.text(2.5, 0.3, total, color=INK, **CENTRED)
    return figure


def plane():
    r"""The plane of two features: one comparison, and the lines of equal reward, across :math:`\theta`."""
    figure = Figure(figsize=(5, 3.3))
    axes = figure.add_subplot(aspect="equal", xlim=(-2.3, 2.4), ylim=(-1, 1.8))
    axes.set(xlabel="first feature", ylabel="second feature", xticks=[-2, 0, 2], yticks=[0, 1])
    axes.grid(visible=False)
    for reward in (-1, 0, 1):  # theta = (1, 1/2)
        axes.plot([reward + 0.5, reward - 0.7], [-1, 1.4], "--", color=GREY, lw=1)
        said = f"r = {reward}".replace("-", "−")
        axes.text(reward - 0.7, 1.58, said, color=GREY, **CENTRED)
    chosen, rejected = (1.5, 0.9), (-1.7, 0.3)
    _arrow(axes, rejected, chosen, "C4", linewidth=2, shrinkA=6, shrinkB=6)
    _arrow(axes, (0, 0), (1, 0.5), linewidth=2, shrinkA=0, shrinkB=0)
    for x, y, text, color in [(*chosen, "chosen", "C0"), (*rejected, "rejected", "C1")]:
        axes.plot(x, y, "o", color=color, ms=8)
        axes.text(x, y - 0.25, text, color=color, **CENTRED)
    for x, y, text, color in [(-0.7, 0.74, "Δ", "C4"), (0.6, 0.07, "θ", INK)]:
        axes.text(x, y, text, color=color, **CENTRED)
    return figure


def door():
    """The door in four frames: a reward, its best policy, its log-ratio, and their differences."""
    reference, reward, beta = np.array([0.5, 0.3, 0.2]), np.log([2, 1, 10 / 3]), 0.5
    policy = optimal_policy(reference, reward, beta)
    implicit = implicit_reward(policy, reference, beta)
    figure = Figure(figsize=(5, 4.6))
    (first, second), (third, fourth) = figure.subplots(2, 2)
    for axes, title in [(first, "1. reward"), (second, "2. best policy"), (third, "3. log-ratio")]:
        axes.set_xticks(range(3), [*"ABC"])
        axes.set_title(f"{title} × β" if axes is third else title, color=INK)
        axes.grid(visible=False)
    for axes, values, color in [(first, reward, SIGMA), (third, implicit, RATIO)]:
        axes.axhline(0, color=GREY, lw=1)
        axes.set(ylim=(-1, 1.9), xlim=(-0.5, 2.5), yticks=[-1, 0, 1])
        axes.plot(values, "o", color=color, ms=8)
    third.plot(reward, "o", mfc="none", color=SIGMA, ms=8)
    for k in range(3):
        fall = {"arrowstyle": "-|>", "color": GREY, "shrinkA": 5, "shrinkB": 5}
        third.annotate("", (k, implicit[k]), (k, reward[k]), arrowprops=fall)
    slide = optimal_value(reference, reward, beta)
    third.text(1, 1.6, f"all fall by {slide:.3f}", color=INK, ha="center")
    second.bar(range(3), policy, width=0.5, color=RATIO)
    second.bar(range(3), reference, width=0.75, fill=False, ls="--", edgecolor=GREY)
    second.set(ylim=(0, 0.6), yticks=[0, 0.2, 0.4, 0.6])
    pairs = [(2, 1), (0, 1), (2, 0)]
    for values, offset, color in [(reward, 0.14, SIGMA), (implicit, -0.14, RATIO)]:
        heights = np.arange(3) + offset
        fourth.barh(heights, [values[i] - values[j] for i, j in pairs], 0.22, color=color)
    fourth.set_title("4. differences", color=INK)
    fourth.set_yticks(range(3), [f"{'ABC'[i]} − {'ABC'[j]}" for i, j in pairs])
    fourth.grid(visible=False)
    fourth.set(xticks=[0, 0.5, 1])
    return figure
