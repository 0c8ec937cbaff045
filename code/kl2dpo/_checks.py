"""Argument checks, done once at the door of every public function."""

import contextlib
import itertools
import reprlib

import numpy as np

SUM_TOLERANCE = 1e-8
ADVICE = "counts? divide by their sum; float32? normalise in float64; samples? see kl_estimators"


def refuse(bad, name, found, expected, verb="is"):
    """A ValueError if `bad`; in an array, the first entry of `found` where `bad` is True is named."""
    if np.asarray(bad).any():
        index = np.argwhere(bad)[0].tolist()
        found = found[tuple(index)] if index else found
        raise ValueError(f"{name}{index or ''} {verb} {found}, expected {expected}")


_HOLDS = {">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal}


def as_array(name, value, *bounds, shape=None, masked=False):
    """Return `value` as an array of finite floats; each of the bounds is a pair like ``(">", 0)``.

    A word in `shape` stands for any one length. With `masked`, -inf is accepted too: the
    logarithm of a probability that was set to 0.
    """
    try:
        array = np.ma.filled(value, np.nan)  # the data of any array; a masked entry is no number
        if array.dtype.kind not in "biufO":
            raise TypeError
        numbers = array - 0 if array.dtype.kind == "O" else array  # texts and None fail here
        array = np.array(numbers, dtype=float)
    except Exception:  # whatever an object's own __array__ raises
        raise ValueError(f"{name} is {reprlib.repr(value)}, expected real numbers") from None
    refuse(not array.size, name, f"empty, of shape {array.shape}", "at least one number")
    good = np.isfinite(array) | (masked and array == -np.inf)
    refuse(~good, name, array, "a finite number" + masked * " or -inf")
    for sign, limit in bounds:
        refuse(~_HOLDS[sign](array, limit), name, array, f"a number {sign} {limit}")
    if shape is not None:
        words = {n: size for n, size in zip(shape, array.shape) if isinstance(n, str)}
        wrong = array.shape != tuple(words.get(n, n) for n in shape)
        expected = f"({', '.join(map(str, shape))})" if shape else "one number"
        refuse(wrong, name, f"shape {array.shape}", expected, "has")
    return array


def as_number(name, value, *bounds):
    """Return `value` as a float within the bounds, as `as_array`."""
    return float(as_array(name, value, *bounds, shape=()))


def as_count(name, value, at_least=1):
    """Return `value` as an int of at least `at_least`."""
    if not isinstance(value, (int, np.integer)) or value < at_least:
        raise ValueError(f"{name} is {value!r}, expected an integer >= {at_least}")
    return int(value)


def as_indices(name, value, shape, below):
    """Return `value` as an array of integers from 0 to below - 1, of this shape."""
    array = as_array(name, value, (">=", 0), ("<", below), shape=shape)
    indices = array.astype(np.intp)
    refuse(indices != array, name, array, "an integer")
    return indices


def as_shaped(name, value, shape, *bounds):
    """Return `value` as an array within the bounds, of this shape or broadcast to it."""
    array = as_array(name, value, *bounds)
    with contextlib.suppress(ValueError):
        return np.broadcast_to(array, shape)
    raise ValueError(f"{name} has shape {array.shape}, expected {shape}")


def as_slices(name, value, axis, masked=False):
    """Return `value` as an array that has this axis."""
    array = as_array(name, value, masked=masked)
    refuse(array.ndim == 0, name, "a single number", "at least one dimension")
    known = [*range(-array.ndim, array.ndim)]
    good = isinstance(axis, (int, np.integer)) and not isinstance(axis, bool) and axis in known
    refuse(not good, "axis", repr(axis), f"one of {known}: {name} has {array.ndim} axes")
    return array


def as_logits(name, value, axis):
    """Return `value` as an array whose slices along `axis` have a softmax; that of -inf is 0."""
    array = as_slices(name, value, axis, masked=True)
    as_array(f"the largest of {name}", array.max(axis=axis))
    return array


def as_probabilities(name, value, axis):
    """Return `value` as an array whose slices along `axis` are probability distributions."""
    array = as_slices(name, value, axis)
    refuse(array < 0, name, array, "a probability >= 0, not a logit or a sample")
    with np.errstate(over="ignore"):
        total = array.sum(axis=axis)
    expected = f"1 along axis {axis}, within {SUM_TOLERANCE} ({ADVICE})"
    refuse(np.abs(total - 1) > SUM_TOLERANCE, f"the sum of {name}", total, expected)
    return array


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
        for pair in zip(labels[p], labels[q]):
            advice = f"align them, for probabilities by {p}, {q} = {p}.align({q}, fill_value=0)"
            found = f"labels that differ, {reprlib.repr(pair)}"
            refuse(pair[0] != pair[1], f"{p} and {q}", found, f"the same: {advice}", "have")


def outcomes_last(as_checked, axis, **values):
    """The named arrays, each checked, with `axis` moved to the end, where the others broadcast.

    A ValueError if labels differ, if the axes do not broadcast, or if the arrays differ in the
    number of outcomes: one outcome must not be stretched to many.
    """
    arrays = {name: as_checked(name, value, axis) for name, value in values.items()}
    check_labels(axis, **values)
    moved = {name: np.moveaxis(array, axis, -1) for name, array in arrays.items()}
    if len({array.shape[-1] for array in moved.values()}) > 1:
        found = ", ".join(f"{name} has {array.shape[-1]}" for name, array in moved.items())
        raise ValueError(f"{found} outcomes along axis {axis}, expected the same number")
    check_shapes(**moved)
    return moved.values()
