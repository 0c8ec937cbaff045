"""One test for each message of `_checks`; elsewhere a message is pinned by argument and number."""

import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from kl2dpo._checks import (
    as_array,
    as_count,
    as_indices,
    as_number,
    as_probabilities,
    as_shaped,
    as_slices,
    check_labels,
    check_shapes,
    outcomes_last,
    refuse,
)


class Table:
    """What NumPy and the checks see of a Series or a DataFrame of pandas."""

    def __init__(self, data, *axes):
        self.data, self.axes = np.array(data), axes

    def __array__(self, dtype=None, copy=None):
        return self.data


class Raising:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("a tensor that requires a gradient")


def refused(*words):
    """A ValueError whose message has the words in this order, the first one at its beginning."""
    return pytest.raises(ValueError, match="^" + ".*".join(map(re.escape, words)))


def test_refuse_names_the_first_entry():
    refuse(np.array([False, False]), "x", np.array([1, 2]), "nothing")
    with refused("x[1, 0] is 3, expected less"):
        refuse(np.array([[False, False], [True, True]]), "x", np.array([[1, 2], [3, 4]]), "less")
    with refused("x is 3, expected less"):
        refuse(np.array(True), "x", np.array(3), "less")


GOOD = [2, True, [1, 2], range(3), np.float32(2), [Fraction(1, 2), Decimal(2)], Fraction(1, 2)]


@pytest.mark.parametrize("value", [*GOOD, np.ma.array([1, 2]), Table([1, 2], "ab")])
def test_arrays_of_real_numbers(value):
    array = as_array("x", value)
    assert array.dtype == float
    np.testing.assert_array_equal(array, np.asarray(value, dtype=float))


def test_an_array_is_copied():
    value = np.zeros(2)
    as_array("x", value)[:] = 1
    assert not value.any()


BAD = [
    "0.5",
    ["0.5"],
    b"0.5",
    np.array(["0.5", b"0.5"], dtype=object),
    None,
    [0.5, None],
    [0.5, 0.5j],
    [[0.5], [0.5, 0.5]],
    {0.5},
    {"a": 0.5},
    np.array(["2026-11-28"], dtype="datetime64[D]"),
    10**400,
    Raising(),
]


@pytest.mark.parametrize("value", BAD)
def test_what_is_no_array_of_real_numbers(value):
    with refused("x is ", "expected real numbers"):
        as_array("x", value)


@pytest.mark.parametrize("value", [[], np.ones((0, 2))])
def test_empty(value):
    with refused("x is empty", str(np.shape(value))):
        as_array("x", value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad):
    with refused(f"x[1] is {bad}", "finite"):
        as_array("x", [0, bad])
    with refused(f"x is {bad}", "finite"):
        as_array("x", bad)


def test_only_minus_infinity_is_masked():
    assert as_array("x", [0, -np.inf], masked=True).tolist() == [0, -np.inf]
    for bad in (np.nan, np.inf):
        with refused(f"x[1] is {bad}", "finite number or -inf"):
            as_array("x", [0, bad], masked=True)
    # A masked array is another matter: its entry is no number at all.
    with refused("x[1] is nan"):
        as_array("x", np.ma.array([0.0, 1.0], mask=[False, True]))


@pytest.mark.parametrize("sign, bad", [(">", 2), (">=", 1.5), ("<", 2), ("<=", 2.5)])
def test_bounds(sign, bad):
    good = 2 + (2 - bad) if bad != 2 else 3 if sign == ">" else 1
    as_array("x", [good, good], (sign, 2))
    with refused(f"x[1] is {float(bad)}", f"{sign} 2"):
        as_array("x", [good, bad], (sign, 2))


def test_one_number():
    assert as_number("x", Fraction(1, 2), (">", 0)) == 0.5
    with refused("x has shape (2,)", "one number"):
        as_number("x", [1, 2])
    with refused("x is 0.0", "> 0"):
        as_number("x", 0, (">", 0))


@pytest.mark.parametrize("bad", [0, -1, 1.0, "1", None, np.nan])
def test_counts(bad):
    assert as_count("n", np.int64(3)) == 3 and as_count("n", 0, at_least=0) == 0
    with refused(f"n is {bad!r}", ">= 1"):
        as_count("n", bad)


def test_probabilities():
    p = as_probabilities("p", [[0.25, 1], [0.75, 5e-9]], 0)
    assert p.tolist() == [[0.25, 1], [0.75, 5e-9]]
    with refused("p[1] is -0.1", ">= 0"):
        as_probabilities("p", [1.1, -0.1], -1)


@pytest.mark.parametrize(
    "value, total",
    [([3, 5], "8.0"), ([0.5, 0.5 + 2e-8], "1.00000001999"), ([1e308, 1e308], "inf")],
)
def test_sums_of_probabilities(value, total):
    with refused(f"the sum of p is {total}", "expected 1", "counts", "float64", "kl_estimators"):
        as_probabilities("p", value, -1)
    with refused(f"the sum of p[1] is {total}", "along axis 0"):
        as_probabilities("p", np.transpose([[1, 0], value]), 0)


@pytest.mark.parametrize("axis", [2, -3, 0.0, True, None, "0", (0,)])
def test_axes(axis):
    as_slices("p", np.ones((2, 3)), np.int64(-2))
    with refused(f"axis is {axis!r}", "[-2, -1, 0, 1]", "p has 2"):
        as_slices("p", np.ones((2, 3)), axis)


def test_a_single_number_has_no_axis():
    with refused("p is a single number"):
        as_slices("p", np.float64(1), -1)


def test_shapes():
    check_shapes(a=np.ones((3, 1)), b=np.ones(4), c=np.float64(1))
    with refused("shapes do not broadcast: a (2,), b (3, 1), c (3,)"):
        check_shapes(a=np.ones(2), b=np.ones((3, 1)), c=np.ones(3))


def test_outcomes():
    a, b = outcomes_last(as_slices, 0, a=np.ones((2, 5)), b=np.ones(2))
    assert a.shape == (5, 2) and b.shape == (2,)
    with refused("a has 2, b has 1 outcomes along axis -1"):
        outcomes_last(as_slices, -1, a=np.ones((3, 2)), b=np.ones(1))
    with refused("shapes do not broadcast: a (3, 2), b (4, 2)"):
        outcomes_last(as_slices, 0, a=np.ones((2, 3)), b=np.ones((2, 4)))
    with refused("axis is 1", "b has 1"):
        outcomes_last(as_slices, 1, a=np.ones((2, 2)), b=np.ones(2))


def test_shape_of_an_array():
    assert as_array("x", [[1, 2, 3]], shape=(1, "n")).shape == (1, 3)
    assert as_array("x", 1, shape=()).shape == ()
    for value, shape, expected in [
        ([1, 2], ("n", "n"), "(n, n)"),
        ([[1, 2, 3]] * 2, ("n", "n"), "(n, n)"),
        ([1, 2], (3,), "(3)"),
        ([[1, 2]], (2,), "(2)"),
    ]:
        with refused(f"x has shape {np.shape(value)}, expected {expected}"):
            as_array("x", value, shape=shape)


def test_indices():
    assert as_indices("k", [[0, 2]], (1, "n"), 3).dtype == np.intp
    for bad, expected in [(1.5, "an integer"), (-1, ">= 0"), (3, "< 3")]:
        with refused(f"k[1] is {float(bad)}", expected):
            as_indices("k", [0, bad], ("m",), 3)


def test_a_shape_to_fill():
    assert as_shaped("x", [1, 2], (3, 2), (">", 0)).shape == (3, 2)
    with refused("x has shape (2,), expected (3,)"):
        as_shaped("x", [1, 2], (3,))


ROWS = Table([[0.2, 0.8], [0.5, 0.5]], "xy", "ab")


def test_labels_that_agree():
    one = Table([0.2, 0.8], "ab")
    check_labels(p=one, q=Table([0.8, 0.2], ["a", "b"]))
    check_labels(p=one, q=[0.8, 0.2], r=np.array([0.8, 0.2]))
    check_labels(p=ROWS, q=one, r=ROWS)
    check_labels(0, p=Table(ROWS.data.T, "ab", "xy"), q=one)


@pytest.mark.parametrize(
    "axis, p, q, found",
    [
        (-1, Table([0.2, 0.8], "ab"), Table([0.8, 0.2], "ba"), "(['a', 'b'], ['b', 'a'])"),
        (-1, Table([0.2, 0.8], "ab"), Table([1], "a"), "(['a', 'b'], ['a'])"),
        (-1, ROWS, Table(ROWS.data, "yx", "ab"), "(['x', 'y'], ['y', 'x'])"),
        (-1, ROWS, Table(ROWS.data, "xy", "ba"), "(['a', 'b'], ['b', 'a'])"),
        (-1, Table([0.2, 0.8], "xy"), ROWS, "(['x', 'y'], ['a', 'b'])"),
        (0, Table([0.2, 0.8], "ab"), ROWS, "(['a', 'b'], ['x', 'y'])"),
    ],
)
def test_labels_that_differ(axis, p, q, found):
    with refused("p and q have labels", found, "p, q = p.align(q, fill_value=0)"):
        check_labels(axis, p=p, q=q)
    with refused("p and q have labels", found):
        check_labels(axis, p=p, between=[0.2, 0.8], q=q)
