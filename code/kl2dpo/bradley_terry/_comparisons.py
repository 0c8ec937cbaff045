"""The data of a fit: comparisons as rows of a design matrix, and the arguments that they come from."""

import reprlib
from collections import defaultdict
from contextlib import suppress
from functools import cached_property
from itertools import count

import numpy as np

from kl2dpo._checks import as_array, refuse
from kl2dpo._logistic import minus_log_sigmoid, sigmoid


class Comparisons:
    """Rows x = e_first - e_second, with covariates behind: the log-odds of a row are x'theta.

    In row k, `first[k]` won `wins[k]` times and lost `losses[k]` times; each of the `ties[k]`
    is half a win and half a loss in these. Theta is the log-strengths, then one coefficient a
    covariate.

    What moves an estimate is the error of each result, the probability that the model gave to
    the opposite one: it pushes the winner up and the loser down. The score of an item is its
    ups minus its downs.
    """

    def __init__(self, first, second, n_items, wins=0, losses=0, ties=0, covariates=None):
        self.first, self.second, self.n_items = first, second, n_items
        self.wins, self.losses, self.ties = wins, losses, ties
        self.covariates = np.zeros((len(first), 0)) if covariates is None else covariates
        # How much a change of each parameter can change the log-odds of a row.
        self.scale = np.append(np.ones(n_items), np.abs(self.covariates).max(axis=0, initial=0))
        self.rows = self

    def log_odds(self, theta):
        s, coefficients = np.split(theta, [self.n_items])
        differences = s.take(self.first) - s.take(self.second)
        return differences + self.covariates @ coefficients if coefficients.size else differences

    def sums(self, of_first, of_second):
        """The positive entries of X times `of_first`, less the negative ones times `of_second`."""
        items = np.bincount(self.first, of_first, self.n_items)
        items += np.bincount(self.second, of_second, self.n_items)
        x = self.covariates.T
        return np.append(items, np.maximum(x, 0) @ of_first + np.maximum(-x, 0) @ of_second)

    def ups_and_downs(self, theta):
        z = self.log_odds(theta)
        up, down = self.wins * sigmoid(-z), self.losses * sigmoid(z)
        return self.sums(up, down), self.sums(down, up)

    def log_likelihood(self, theta):
        z = self.log_odds(theta)
        return -(minus_log_sigmoid(z) @ self.wins + minus_log_sigmoid(-z) @ self.losses)

    def information(self, theta):
        """X' W X with the variance p (1 - p) of each result: minus the second derivatives."""
        z = self.log_odds(theta)
        return Gram(self, (self.wins + self.losses) * sigmoid(z) * sigmoid(-z))

    def squared_errors(self, theta):
        """X' W X with (outcome - p)^2 of each result; the outcome of a tie is 1/2."""
        z = self.log_odds(theta)
        squares = self.wins * sigmoid(-z) ** 2 + self.losses * sigmoid(z) ** 2
        return Gram(self, squares - self.ties / 4)

    def edges(self):
        """Winner and loser of each row and direction in which somebody has won."""
        won, lost = self.wins > 0, self.losses > 0
        winners = np.append(self.first[won], self.second[lost])
        return winners, np.append(self.second[won], self.first[lost])

    def neighbours(self):
        """Functions that list whom an item has beaten, and who has beaten it."""
        winners, losers = self.edges()
        return grouped(winners, losers, self.n_items), grouped(losers, winners, self.n_items)

    def cells(self):
        """Wins and losses, those of the same two items with the same covariates added up."""
        turn = np.where(self.first > self.second, -1, 1)
        pair = np.sort([self.first, self.second], axis=0)
        rows = np.column_stack([*pair, turn[:, None] * self.covariates + 0.0])  # no -0.0
        place = np.unique(rows, axis=0, return_inverse=True)[1].ravel()
        wins = np.bincount(place, np.where(turn > 0, self.wins, self.losses))
        return wins, np.bincount(place, self.wins + self.losses) - wins


class Table:
    """The same without covariates, as a matrix of wins: faster where most pairs have met."""

    def __init__(self, table, ties):
        self.table, self.ties, self.n_items = table, ties, len(table)
        self.scale = np.ones(len(table))

    @cached_property
    def rows(self):
        i, j = np.nonzero(np.triu(self.played))
        return Comparisons(i, j, self.n_items, self.table[i, j], self.table[j, i], self.ties[i, j])

    @cached_property
    def played(self):
        return self.table + self.table.T

    def odds(self, s):
        with np.errstate(over="ignore"):
            if np.ptp(s) < 600:
                # n exponentials instead of n^2; none of them overflows.
                return np.multiply.outer(np.exp(s - s.mean()), np.exp(s.mean() - s))
            return np.exp(np.subtract.outer(s, s))

    def ups_and_downs(self, s):
        # In place: with a million pairs, new arrays cost as much time as the arithmetic.
        errors = self.odds(s)
        errors += 1
        np.divide(self.table, errors, out=errors)
        return errors.sum(axis=1), errors.sum(axis=0)

    def information(self, s):
        odds = self.odds(s)
        with np.errstate(divide="ignore"):
            inverse = 1 / odds
        inverse += odds
        inverse += 2  # 1 / (p (1 - p))
        return laplacian(np.divide(self.played, inverse, out=inverse))

    def neighbours(self):
        """Functions that list whom an item has beaten, and who has beaten it."""
        return (lambda k: self.table[k].nonzero()[0], lambda k: self.table[:, k].nonzero()[0])


class Gram:
    """X' W X with a weight for each row: it multiplies vectors without being formed."""

    def __init__(self, rows, weights):
        self.rows, self.weights = rows, weights

    def __matmul__(self, theta):
        flow = self.weights * self.rows.log_odds(theta)
        return self.rows.sums(flow, -flow)

    def diagonal(self):
        rows, w = self.rows, self.weights
        return np.append(rows.sums(w, w)[: rows.n_items], w @ rows.covariates**2)

    def __array__(self, dtype=None, copy=None):
        rows, n, w = self.rows, self.rows.n_items, self.weights
        pairs = np.bincount(rows.first * n + rows.second, w, n * n).reshape(n, n)
        columns = [rows.sums(w * x, -w * x) for x in rows.covariates.T]
        matrix = np.zeros((len(rows.scale), len(rows.scale)))
        matrix[:n, :n] = laplacian(pairs + pairs.T)
        matrix[n:] = np.reshape(columns, (-1, len(matrix)))
        matrix[:, n:] = matrix[n:].T
        return matrix


def grouped(keys, values, n_keys):
    """A function that gives the values of a key."""
    values = values[np.argsort(keys, kind="stable")]
    ends = np.append(0, np.cumsum(np.bincount(keys, minlength=n_keys))).tolist()
    return lambda key: values[ends[key] : ends[key + 1]]


def laplacian(weights):
    """The Laplacian of a graph, in place of its symmetric matrix of weights (zero diagonal)."""
    degrees = weights.sum(axis=1)
    np.negative(weights, out=weights)
    np.fill_diagonal(weights, degrees)
    return weights


def of_list(first, second, weights, tied, n_items, covariates=None):
    """The data from a list: in entry k `first[k]` won, or tied where `tied[k]`."""
    ties = weights * tied
    wins = weights - ties / 2
    if covariates is not None:
        return Comparisons(first, second, n_items, wins, ties / 2, ties, covariates)
    if n_items**2 <= len(first):
        # With so many comparisons, a table takes no more memory than the list.
        cell = first * n_items + second
        counts = (np.bincount(cell, each, n_items**2) for each in (wins, ties))
        wins, ties = (each.reshape(n_items, n_items) for each in counts)
        return Table(wins + ties.T / 2, ties + ties.T)
    # Entries of the same pair become one row, in which the lower index is first.
    pair = np.minimum(first, second) * n_items + np.maximum(first, second)
    pair, place = np.unique(pair, return_inverse=True)
    wins = np.where(first < second, wins, ties / 2)
    wins, losses, ties = (np.bincount(place, each) for each in (wins, weights - wins, ties))
    return Comparisons(*np.divmod(pair, n_items), n_items, wins, losses, ties)


def of_tables(wins, ties, covariates=None):
    """The data from tables, shape (..., n, n); covariates are behind, shape (..., n, n, k)."""
    n = wins.shape[-1]
    if covariates is None:
        wins, ties = (np.reshape(x, (-1, n, n)).sum(axis=0) for x in (wins, ties))
        if ties.any():
            ties = ties + ties.T
            wins = wins + ties / 2
        return Table(wins, ties)
    met = np.nonzero(wins + ties)
    (first, second), wins, ties = met[-2:], wins[met], ties[met]
    return Comparisons(first, second, n, wins + ties / 2, ties / 2, ties, covariates[met])


# The arguments


def as_shaped(name, value, shape, *bounds):
    """`value` as an array of finite numbers within the bounds, of this shape or broadcast to it."""
    array = as_array(name, value, *bounds)
    with suppress(ValueError):
        return np.broadcast_to(array, shape)
    raise ValueError(f"{name} has shape {array.shape}, expected {shape}")


def as_counts(name, value, at_least_one=True):
    """`value` as an array of numbers of comparisons."""
    counts = as_array(name, value, (">=", 0), ("<", 1e100))
    refuse((counts > 0) & (counts < 1e-100), name, counts, "0, or a number of at least 1e-100")
    refuse(at_least_one and not counts.any(), name, "all zero", "at least one comparison")
    return counts


def as_wins(name, value, shape="(n, n)", at_least_one=True):
    """`value` as a table of counts of this shape; with leading axes if it begins with `...`."""
    wins = as_counts(name, value, at_least_one)
    n = wins.shape[-1:] + (0,)
    if n[0] < 2 or wins.shape[-2:] != n[:1] * 2 or (wins.ndim > 2) > ("..." in shape):
        raise ValueError(f"{name} has shape {wins.shape}, expected {shape} with n >= 2")
    rows, columns = getattr(value, "index", ()), getattr(value, "columns", None)
    if columns is not None and list(columns) != list(rows):
        found = f"rows {some(rows)} and columns {some(columns)}"
        raise ValueError(f"{name} has {found}, expected the same")
    refuse((wins > 0) & np.eye(n[0], dtype=bool), name, wins, "0 on the diagonal")
    return wins


def covariates_of(covariates, shape):
    """Names of the covariates, and their values, shape (*shape, k); ((), None) for None."""
    covariates = {} if covariates is None else covariates
    refuse(not isinstance(covariates, dict), "covariates", reprlib.repr(covariates), "a dictionary")
    if not covariates:
        return (), None
    bounds = (">", -1e50), ("<", 1e50)
    values = [as_shaped(f"covariates[{k!r}]", v, shape, *bounds) for k, v in covariates.items()]
    return tuple(covariates), np.stack(values, axis=-1)


def numbered(**lists):
    """For each list of labels the numbers of its labels, and last all labels, as they come.

    A label is hashable, not None, and equal to itself, which a NaN is not.
    """
    arrays = [np.asarray(values) for values in lists.values() if hasattr(values, "tolist")]
    if len(arrays) == len(lists) and all(x.dtype.kind in "iu" and x.ndim == 1 for x in arrays):
        together = np.concatenate(arrays)
        small = together.size and np.ptp(together) <= 4.0 * len(together)
        if small and together.dtype.kind in "iu":  # indices: they need no dictionary
            least = together.min()
            here = np.bincount(together - least) > 0
            numbers = (np.cumsum(here) - 1)[together - least]
            parts = np.split(numbers, np.cumsum([len(x) for x in arrays])[:-1])
            return *parts, (here.nonzero()[0] + least).tolist()
    number: defaultdict = defaultdict(count().__next__)
    numbers = []
    for name, values in lists.items():
        try:
            if isinstance(values, (set, frozenset, dict)):
                raise TypeError  # they have no order
            labels = values.tolist() if hasattr(values, "tolist") else list(values)
            numbers.append(np.fromiter(map(number.__getitem__, labels), np.int64, len(labels)))
            missing = [label for label in number if label is None or label != label]
        except TypeError:
            found = reprlib.repr(values)
            raise ValueError(f"{name} is {found}, expected a list of labels") from None
        if missing:
            k = labels.index(missing[0])
            raise ValueError(f"{name}[{k}] is {missing[0]!r}, expected a label")
    return *numbers, list(number)


def names_of(names, wins, n_items):
    """Names of the items as a tuple: `names`, or the labels of `wins`, or 0, 1, ..., n - 1."""
    columns = getattr(wins, "columns", None)
    if names is None:
        names = range(n_items) if columns is None else columns
    numbers, different = numbered(names=names)
    if not n_items == len(numbers) == len(different):
        found = f"{len(numbers)} entries, of them {len(different)} different"
        raise ValueError(f"names has {found}, expected {n_items} different labels")
    return tuple(different)


def indices_of(winners, losers):
    """Indices of the labels in both lists, and the labels: sorted, if they can be."""
    for name, values in (("winners", winners), ("losers", losers)):
        if isinstance(values, str):  # which is a list of letters, but not meant as one
            raise ValueError(f"{name} is {reprlib.repr(values)}, expected a list of labels")
    first, second, labels = numbered(winners=winners, losers=losers)
    if len(first) != len(second) or not labels:
        found = f"winners has {len(first)} entries and losers has {len(second)}"
        raise ValueError(f"{found}, expected the same number, at least one")
    types = sorted({type(label).__name__ for label in labels})
    if len(types) > 1:
        found = " and ".join(types)
        raise ValueError(f"winners and losers have labels of type {found}, expected one type")
    if (first == second).any():
        k = (first == second).argmax()
        raise ValueError(
            f"losers[{k}] is {labels[second[k]]}, expected another item than the winner"
        )
    order = list(range(len(labels)))
    with suppress(TypeError):
        order.sort(key=labels.__getitem__)
    place = np.argsort(order)
    return place[first], place[second], tuple(labels[k] for k in order)


def some(items):
    """The first of the items, and how many more there are."""
    shown = ", ".join(str(item) for item in items[:5])
    return shown if len(items) <= 5 else f"{shown} and {len(items) - 5} more"
