import base64
import re
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython import get_ipython

from kl2dpo.figures import _to_svg, slider, triangle, use_book_style


def draw():
    """A figure with three states, and a line that belongs to none."""
    figure, axes = plt.subplots()
    states = [(f"level {k}", axes.plot([0, 1], [k, k])) for k in range(3)]
    axes.plot([0, 1], [0, 1])
    return figure, states


@pytest.fixture(autouse=True)
def book_style():
    with plt.rc_context():
        use_book_style()
        yield
        plt.close("all")


@pytest.fixture
def drawing():
    return draw()


def make(drawing, **changes):
    figure, states = drawing
    arguments = {"name": "s", "label": "Level", "alt": 'A line, "flat" & still.', "start": 1}
    return slider(figure, states, **(arguments | changes))


def parse(page):
    """The slider as XML; raises if a tag or an attribute is broken."""
    return ElementTree.fromstring(page)


def test_shows_the_start_state_only(drawing):
    parts = parse(make(drawing)).findall(".//*[@data-state]")
    hidden = {part.get("data-state"): part.get("style") for part in parts}
    assert hidden == {"0": "display: none", "1": None, "2": "display: none"}


def test_control_is_labelled_and_reaches_every_state(drawing):
    page = parse(make(drawing))
    control, label = page.find(".//input"), page.find(".//label")
    assert (control.get("min"), control.get("max"), control.get("value")) == ("0", "2", "1")
    assert label.get("for") == control.get("id") and label.text == "Level"
    assert control.get("aria-valuetext") == page.find("output").text == "level 1"
    assert control.get("data-texts").split("|") == ["level 0", "level 1", "level 2"]


def test_picture_is_described(drawing):
    svg = parse(make(drawing)).find("{http://www.w3.org/2000/svg}svg")
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == 'A line, "flat" & still.'
    # As wide as a phone at most, and legible on a dark page.
    style = svg.get("style").split("; ")
    assert {"max-width: 100%", "height: auto", "background: white"} == set(style)


def test_the_same_code_gives_the_same_page(drawing):
    assert make(drawing) == make(draw())


def test_asks_for_nothing(drawing):
    # The addresses that remain are names of XML vocabularies, which no browser fetches.
    names = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\"' )]*", make(drawing))) <= names


def test_coordinates_are_rounded():
    svg = _to_svg(draw()[0])
    numbers = re.findall(r"-?\d+\.?\d*", " ".join(re.findall(r' d="([^"]*)"', svg)))
    assert len(numbers) > 100
    assert max(len(number.partition(".")[2]) for number in numbers) == 3
    assert "-0" not in numbers


def test_colours_stay_whole():
    figure, axes = plt.subplots()
    axes.plot([0, 1], color="black")
    axes.plot([1, 0], color="#001200")
    svg = _to_svg(figure)
    assert "stroke: #000000" in svg and "stroke: #001200" in svg
    assert all(len(colour) == 6 for colour in re.findall(r"(?:fill|stroke): #(\w+)", svg))


def test_a_changed_colour_changes_the_picture():
    figure, states = draw()
    states[0][1][0].set_color("#123456")
    assert _to_svg(figure) != _to_svg(draw()[0])


@pytest.mark.parametrize("start", [-1, 3, "1"])
def test_start_outside_the_states_is_refused(drawing, start):
    with pytest.raises(ValueError, match="start is .* expected a position from 0 to 2"):
        make(drawing, start=start)


def test_one_state_is_refused(drawing):
    figure, states = drawing
    with pytest.raises(ValueError, match="states has 1 state"):
        make((figure, states[:1]))


def test_the_first_state_is_shown_by_default(drawing):
    figure, states = drawing
    page = parse(slider(figure, states, name="s", label="Level", alt="A line."))
    assert page.find(".//input").get("value") == "0" and page.find("output").text == "level 0"


def test_browsers_understand_the_names_of_the_elements(drawing):
    # In HTML, unlike XML, a prefix is part of the name: <ns0:svg> would be no picture.
    page = make(drawing)
    assert "\n<svg " in page and "<path " in page and ' xlink:href="#' in page
    assert not re.search(r"</?\w+:", page)


def test_what_lies_outside_the_figure_is_drawn():
    figure = plt.figure(figsize=(2, 1))
    figure.text(1.5, 0.5, "outside")
    figure.text(0, 0.5, "inside")
    width = float(re.search(r'<svg [^>]*width="([\d.]+)pt"', _to_svg(figure))[1])
    assert width > 1.5 * 144


def test_notebooks_show_the_portable_picture():
    data, _ = get_ipython().display_formatter.format(draw()[0])
    assert data["image/svg+xml"] == _to_svg(draw()[0])
    image = parse(data["text/html"]).get("src").removeprefix("data:image/svg+xml;base64,")
    assert base64.b64decode(image).decode() == data["image/svg+xml"]
    assert set(data) == {"image/svg+xml", "text/html", "text/plain"}


def test_glyphs_keep_their_scale():
    figure, axes = plt.subplots()
    axes.set_xlabel("x")
    assert "scale(0.015625)" in _to_svg(figure)
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
