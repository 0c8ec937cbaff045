import base64
import re
from itertools import combinations
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython import get_ipython
from matplotlib.text import Text

from kl2dpo.figures import diagrams, triangle, use_book_style
from kl2dpo.figures._svg import in_colours_of_page, to_svg


def draw():
    figure, axes = plt.subplots()
    axes.plot([0, 1], [0, 1])
    return figure


@pytest.fixture(autouse=True)
def book_style():
    with plt.rc_context():
        use_book_style()
        yield
        plt.close("all")


def test_coordinates_are_rounded():
    svg = to_svg(draw())
    numbers = re.findall(r"-?\d+\.?\d*", " ".join(re.findall(r' d="([^"]*)"', svg)))
    assert len(numbers) > 100
    assert max(len(number.partition(".")[2]) for number in numbers) == 3
    assert "-0" not in numbers


def test_numbers_in_texts_are_not_rounded():
    figure = draw()
    figure.axes[0].set_title("0.12345")
    with plt.rc_context({"svg.fonttype": "none"}):
        assert ">0.12345</text>" in to_svg(figure)


def test_colours_stay_whole():
    figure, axes = plt.subplots()
    axes.plot([0, 1], color="black")
    axes.plot([1, 0], color="#001200")
    svg = to_svg(figure)
    assert "stroke: #000000" in svg and "stroke: #001200" in svg
    assert all(len(colour) == 6 for colour in re.findall(r"(?:fill|stroke): #(\w+)", svg))


def test_a_changed_colour_changes_the_picture():
    figure = draw()
    figure.axes[0].lines[0].set_color("#123456")
    assert to_svg(figure) != to_svg(draw())


def test_a_grey_is_as_far_from_the_ground_of_the_page_as_it_was_from_white():
    drawn = "".join(f'<path style="fill: #{c}"/>' for c in ("ffffff", "d1d5db", "4b4f55", "9dbbd3"))
    shares = [int(share) for share in re.findall(r"currentColor (\d+)%", in_colours_of_page(drawn))]
    assert shares == [19, 82]
    assert "fill: var(--live-ground, #fff)" in in_colours_of_page(drawn)
    assert "fill: #9dbbd3" in in_colours_of_page(drawn)


def test_what_lies_outside_the_figure_is_drawn():
    figure = plt.figure(figsize=(2, 1))
    figure.text(1.5, 0.5, "outside")
    figure.text(0, 0.5, "inside")
    width = float(re.search(r'<svg [^>]*width="([\d.]+)pt"', to_svg(figure))[1])
    assert width > 1.5 * 144


def test_notebooks_show_the_portable_picture():
    data, _ = get_ipython().display_formatter.format(draw())
    assert data["image/svg+xml"] == to_svg(draw())
    image = (
        ElementTree.fromstring(data["text/html"])
        .get("src")
        .removeprefix("data:image/svg+xml;base64,")
    )
    assert base64.b64decode(image).decode() == data["image/svg+xml"]
    assert set(data) == {"image/svg+xml", "text/html", "text/plain"}


def test_glyphs_keep_their_scale():
    figure, axes = plt.subplots()
    axes.set_xlabel("x")
    assert "scale(0.015625)" in to_svg(figure)
    plt.close(figure)


def test_a_point_of_the_triangle_is_a_policy():
    _, axes = plt.subplots()
    place = triangle(axes, names=["left", "right", "top"])
    corners = np.transpose(place(np.eye(3)))
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1)
    assert np.allclose(sides, 1)
    # A probability is the distance from the opposite side, in heights of the triangle.
    policies = np.random.default_rng(0).dirichlet([1, 1, 1], size=(2, 5))
    x, y = place(policies)
    assert x.shape == y.shape == (2, 5)
    assert np.allclose(y / 0.75**0.5, policies[..., 2])
    for name, corner in zip(["left", "right", "top"], corners):
        (text,) = [t for t in axes.texts if t.get_text() == name]
        assert np.linalg.norm(text.get_position() - corner) < 0.1


@pytest.mark.parametrize("name", diagrams.__all__)
def test_a_diagram_is_legible_on_a_phone_and_no_text_hides_another(name):
    figure = getattr(diagrams, name)()
    svg = to_svg(figure)
    assert svg == to_svg(getattr(diagrams, name)())
    texts = [t for t in figure.findobj(Text) if t.get_text() and t.get_visible()]
    assert len(texts) > 3
    boxes = {text: text.get_window_extent() for text in texts}
    hidden = [
        (a.get_text(), b.get_text())
        for a, b in combinations(boxes, 2)
        if boxes[a].overlaps(boxes[b])
    ]
    assert not hidden
    # As wide as the text on a phone of 360 pixels.
    points = float(re.search(r'width="([\d.]+)pt"', svg)[1])
    assert min(text.get_fontsize() for text in texts) * 330 / points >= 8.9
    edge = figure.bbox.padded(0.5)
    assert all(edge.contains(*corner) for box in boxes.values() for corner in (box.min, box.max))
