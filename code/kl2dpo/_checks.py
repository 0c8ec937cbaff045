"""Argument checks, done once at the door of every public function."""

import itertools
import reprlib

import numpy as np

SUM_TOLERANCE = 1e-8
ADVICE = "counts? divide by their sum; float32? normalise in float64; samples? see kl_estimators"


def refuse(bad, name, array, expected):
    """A ValueError that names the first entry of `array` where `bad` is True, if there is one."""
    if bad.any():
        index = np.argwhere(bad)[0].tolist()
        raise ValueError(f"{name}{index or ''} is {array[tuple(index)]}, expected {expected}")


_HOLDS = {">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal}


def as_array(name, value, *bounds, masked=False):
    """Return `value` as an array of finite floats; each of the bounds is a pair like ``(">", 0)``.

    With `masked`, -inf is accepted too: the logarithm of a probability that was set to 0.
    """
    try:
        array = np.ma.filled(value, np.nan)  # the data of any array; a masked entry is no number
        if array.dtype.kind not in "biufO":
            raise TypeError
        array = np.asarray(array - 0, dtype=float)  # of objects, texts and None fail here
    except Exception:  # whatever an object's own __array__ raises
        raise ValueError(f"{name} is {reprlib.repr(value)}, expected real numbers") from None
    if not array.size:
        raise ValueError(f"{name} is empty, of shape {array.shape}, expected at least one number")
    good = np.isfinite(array) | (masked & (array == -np.inf))
    refuse(~good, name, array, "a finite number" + masked * " or -inf")
    for sign, limit in bounds:
        refuse(~_HOLDS[sign](array, limit), name, array, f"a number {sign} {limit}")
    return array


def as_number(name, value, *bounds):
    """Return `value` as a float within the bounds, as `as_array`."""
    array = as_array(name, value, *bounds)
    if array.ndim:
        raise ValueError(f"{name} has shape {array.shape}, expected one number")
    return float(array)


def as_count(name, value, at_least=1):
    """Return `value` as an int of at least `at_least`."""
    if not isinstance(value, (int, np.integer)) or value < at_least:
        raise ValueError(f"{name} is {value!r}, expected an integer >= {at_least}")
    return int(value)


def as_probabilities(name, value, axis):
    """Return `value` as an array whose slices along `axis` are probability distributions."""
    array = as_array(name, value)
    check_axis(name, array, axis)
    refuse(array < 0, name, array, "a probability >= 0, not a logit or a sample")
    with np.errstate(over="ignore"):
        total = array.sum(axis=axis)
    expected = f"1 along axis {axis}, within {SUM_TOLERANCE} ({ADVICE})"
    refuse(np.abs(total - 1) > SUM_TOLERANCE, f"the sum of {name}", total, expected)
    return array


def check_axis(name, array, axis):
    """A ValueError if `array` has no such axis."""
    if array.ndim == 0:
        raise ValueError(f"{name} is a single number, expected at least one dimension")
    known = [*range(-array.ndim, array.ndim)]
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)) or axis not in known:
        raise ValueError(f"axis is {axis!r}, expected one of {known}: {name} has {array.ndim} axes")


def check_shapes(**arrays):
    """A ValueError if the named arrays do not broadcast against each other."""
    try:
        np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"shapes do not broadcast: {found}") from None


def check_labels(axis=-1, **values):
    """A ValueError if labels, as tables of pandas have them, differ: entries pair by position."""
    tables = {name: list(map(list, t.axes)) for name, t in values.items() if hasattr(t, "axes")}
    labels = {name: [table.pop(axis), *table] for name, table in tables.items()}
    for p, q in itertools.combinations(labels, 2):
        differing = [(x, y) for x, y in zip(labels[p], labels[q]) if x != y]
        if differing:
            found = f"{p} and {q} have labels that differ, {reprlib.repr(differing[0])}"
            raise ValueError(f"{found}: align them, for example by {p}, {q} = {p}.align({q})")


def outcomes_last(axis, **arrays):
    """The named arrays with `axis` moved to the end, where their other axes broadcast.

    A ValueError if the axes do not broadcast, or if the arrays differ in the number
    of outcomes: one outcome must not be stretched to many.
    """
    moved = {name: np.moveaxis(array, axis, -1) for name, array in arrays.items()}
    if len({array.shape[-1] for array in moved.values()}) > 1:
        found = ", ".join(f"{name} has {array.shape[-1]}" for name, array in moved.items())
        raise ValueError(f"{found} outcomes along axis {axis}, expected the same number")
    check_shapes(**moved)
    return moved.values()
