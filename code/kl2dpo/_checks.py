"""Argument checks, done once at the door of every public function."""

import reprlib

import numpy as np

SUM_TOLERANCE = 1e-8


def _first(bad):
    """The index of the first True in `bad`, and how it is written after a name: ``[2, 0]``."""
    index = np.argwhere(bad)[0]
    return tuple(index), f"[{', '.join(map(str, index))}]" if index.size else ""


def refuse(bad, name, array, expected):
    """A ValueError that names the first entry of `array` where `bad` is True, if there is one."""
    if bad.any():
        index, where = _first(bad)
        raise ValueError(f"{name}{where} is {array[index]}, expected {expected}")


_HOLDS = {">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal}


def as_array(name, value, *bounds):
    """Return `value` as an array of finite floats; each of the bounds is a pair like ``(">", 0)``."""
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biufO":
            raise TypeError
        array = array.astype(float)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise ValueError(f"{name} is {reprlib.repr(value)}, expected real numbers") from None
    if not array.size:
        raise ValueError(f"{name} is empty, of shape {array.shape}, expected at least one number")
    refuse(~np.isfinite(array), name, array, "a finite number")
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
    array = as_finite(name, value)
    check_axis(name, array, axis)
    refuse(array < 0, name, array, "a probability >= 0")
    with np.errstate(over="ignore"):
        total = array.sum(axis=axis)
    bad = np.abs(total - 1) > SUM_TOLERANCE
    if bad.any():
        index, where = _first(bad)
        at = f" at index {where}" if where else ""
        raise ValueError(
            f"{name} sums to {total[index]} along axis {axis}{at}, expected 1 within {SUM_TOLERANCE}"
        )
    return array


# The former names: they go with the last module that uses them.
as_finite = as_array


def as_positive(name, value):
    return as_array(name, value, (">", 0))


def as_positive_number(name, value):
    return as_number(name, value, (">", 0))


def check_axis(name, array, axis):
    """A ValueError if `array` has no such axis."""
    if isinstance(axis, (bool, np.bool_)) or not isinstance(axis, (int, np.integer)):
        raise ValueError(f"axis must be an integer, found {axis!r}")
    if array.ndim == 0:
        raise ValueError(f"{name} is a single number, expected at least one dimension")
    if not -array.ndim <= axis < array.ndim:
        raise ValueError(
            f"axis is {axis}, but {name} has {array.ndim} dimension(s), "
            f"expected an axis from {-array.ndim} to {array.ndim - 1}"
        )


def check_shapes(**arrays):
    """A ValueError if the named arrays do not broadcast against each other."""
    try:
        np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"shapes do not broadcast: {found}") from None


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


def log_of_base(base):
    """The natural logarithm of `base`: what divides nats to give units of that base."""
    array = as_finite("base", base)
    if array.ndim or array <= 0 or array == 1:
        raise ValueError(f"base is {base!r}, expected one number > 0 other than 1")
    return np.log(array)
