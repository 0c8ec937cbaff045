"""The data of a fit: comparisons as rows of a design matrix, and the arguments that they come from."""

import reprlib
from collections import defaultdict
from contextlib import suppress
from functools import cached_property
from itertools import count

import numpy as np

from kl2dpo._checks import as_array, as_shaped, check_labels, refuse
from kl2dpo._logistic import minus_log_sigmoid, sigmoid

# While log-strengths differ by less, squares of their exponentials are floats.
WIDEST = 200


class Comparisons:
    """Rows x = e_first - e_second, with covariates behind: the log-odds of a row are x'theta.

    In row k, `first[k]` won `wins[k]` times and lost `losses[k]` times; each of the `ties[k]`
    is half a win and half a loss in these. Theta is the log-strengths, then one coefficient a
    covariate.

    What moves an estimate is the error of each result, the probability that the model gave to
    the opposite one: it pushes the winner up and the loser down. The score of an item is its
    ups minus its downs.
    """

    def __init__(self, first, second, n_items, covariates, wins=0, losses=0, ties=0):
        self.first, self.second, self.n_items = first, second, n_items
        self.wins, self.losses, self.ties = wins, losses, ties
        # A covariate is in units of its largest value: none is too large or too small for the climb.
        units = np.abs(covariates).max(axis=0, initial=0)
        units[units == 0] = 1
        self.covariates, self.units = covariates / units, np.append(np.ones(n_items), units)
        self.rows = self

    def log_odds(self, theta):
        s, coefficients = np.split(theta, [self.n_items])
        return s.take(self.first) - s.take(self.second) + self.covariates @ coefficients

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


class Table:
    """The same without covariates, as a matrix of wins: faster where most pairs have met."""

    def __init__(self, wins, ties):
        if ties.any():
            ties = ties + ties.T
            wins = wins + ties / 2
        self.table, self.played, self.ties = wins, wins + wins.T, ties
        self.n_items, self.units = len(wins), np.ones(len(wins))
        # New room for a million entries costs more time than the arithmetic, so all steps use one.
        self.room = np.empty(wins.shape)

    @cached_property
    def rows(self):
        i, j = np.nonzero(np.triu(self.played))
        counts = self.table[i, j], self.table[j, i], self.ties[i, j]
        return Comparisons(i, j, self.n_items, np.zeros((len(i), 0)), *counts)

    def ups_and_downs(self, s):
        if np.ptp(s) > WIDEST:
            return self.rows.ups_and_downs(s)
        a, sums = self.strengths(s)
        shares = np.divide(self.table, sums, out=self.room)
        return np.vecdot(shares, a), a * shares.sum(axis=0)

    def information(self, s):
        if np.ptp(s) > WIDEST:
            return self.rows.information(s)
        a, sums = self.strengths(s)
        sums *= sums
        return TableGram(a, np.divide(self.played, sums, out=self.room))

    def strengths(self, s):
        """The strengths a, and a_i + a_j of each pair."""
        a = np.exp(s - s.mean())
        return a, np.add.outer(a, a, out=self.room)

    def neighbours(self):
        """Functions that list whom an item has beaten, and who has beaten it."""
        return (lambda k: self.table[k].nonzero()[0], lambda k: self.table[:, k].nonzero()[0])


class TableGram:
    """The information of a table: the Laplacian of n_ij a_i a_j / (a_i + a_j)^2."""

    def __init__(self, a, weights):
        self.a, self.weights = a, weights
        self.diagonal = a * np.vecdot(weights, a)

    def __matmul__(self, x):
        return self.diagonal * x - self.a * np.vecdot(self.weights, self.a * x)


class Gram:
    """X' W X with a weight for each row: it multiplies vectors without being formed."""

    def __init__(self, rows, weights):
        self.rows, self.weights = rows, weights
        of_items = rows.sums(weights, weights)[: rows.n_items]
        self.diagonal = np.append(of_items, weights @ rows.covariates**2)

    def __matmul__(self, theta):
        flow = self.weights * self.rows.log_odds(theta)
        return self.rows.sums(flow, -flow)

    def __array__(self, dtype=None, copy=None):
        rows, n, w = self.rows, self.rows.n_items, self.weights
        pairs = np.bincount(rows.first * n + rows.second, w, n * n).reshape(n, n)
        items = np.diag(self.diagonal[:n]) - pairs - pairs.T
        columns = [rows.sums(w * x, -w * x) for x in rows.covariates.T]
        others = np.reshape(columns, (-1, len(rows.units)))
        return np.block([[items, others[:, :n].T], [others]])


def grouped(keys, values, n_keys):
    """A function that gives the values of a key."""
    values = values[np.argsort(keys, kind="stable")]
    ends = np.append(0, np.cumsum(np.bincount(keys, minlength=n_keys))).tolist()
    return lambda key: values[ends[key] : ends[key + 1]]


def of_pairs(first, second, n_items, covariates, wins, ties):
    """The data of a list: in entry k, `first[k]` won `wins[k]` times, and tied `ties[k]` times."""
    if not covariates.size and n_items**2 <= len(first):
        # With so many comparisons, a table takes no more memory than the list.
        cell = first * n_items + second
        counts = (np.bincount(cell, each, n_items**2) for each in (wins, ties))
        return Table(*(each.reshape(n_items, n_items) for each in counts))
    # Entries of the same pair and covariates become one row, in which the lower index is first.
    turned = first > second
    pair = np.where(turned, second * n_items + first, first * n_items + second)
    x = np.where(turned[:, None], -covariates, covariates)
    keys = [*x.T, pair]
    order = np.lexsort(keys)
    changes = [np.diff(key[order]) != 0 for key in keys]
    starts = np.flatnonzero(np.append(True, np.any(changes, axis=0)))
    results = np.where(turned, 0, wins) + ties / 2, np.where(turned, wins, 0) + ties / 2, ties
    wins, losses, ties = (np.add.reduceat(each[order], starts) for each in results)
    rows = order[starts]
    first, second = np.divmod(pair[rows], n_items)
    return Comparisons(first, second, n_items, x[rows], wins, losses, ties)


def of_tables(wins, ties, covariates):
    """The data of tables, shape (..., n, n); covariates are behind, shape (..., n, n, k)."""
    n = wins.shape[-1]
    if not covariates.size:
        return Table(*(np.reshape(x, (-1, n, n)).sum(axis=0) for x in (wins, ties)))
    met = *_, first, second = np.nonzero(wins + ties)
    return of_pairs(first, second, n, covariates[met], wins[met], ties[met])


# The arguments


def as_counts(name, value):
    """`value` as an array of numbers of comparisons."""
    counts = as_array(name, value, (">=", 0), ("<", 1e100))
    refuse((counts > 0) & (counts < 1e-100), name, counts, "0, or a number of at least 1e-100")
    return counts


def as_wins(name, value, shape):
    """`value` as a table of counts of this shape; with leading axes if it begins with `...`."""
    wins = as_counts(name, value)
    square = wins.ndim > 1 and wins.shape[-2] == wins.shape[-1] > 1
    good = square and (wins.ndim == 2 or "..." in shape)
    refuse(not good, name, f"shape {wins.shape}", f"{shape} with n >= 2", "has")
    axes = [list(labels) for labels in getattr(value, "axes", [()])]
    found = f"rows {some(axes[0])} and columns {some(axes[-1])}"
    refuse(axes[0] != axes[-1], name, found, "the same", "has")
    refuse((wins > 0) & np.eye(wins.shape[-1], dtype=bool), name, wins, "0 on the diagonal")
    return wins


def as_tables(shape="(n, n)", ties=None, **tables):
    """The named tables, each `as_wins`, of one shape and with the same labels; and the ties."""
    tables |= {} if ties is None else {"ties": ties}
    check_labels(**tables)
    arrays = {name: as_wins(name, table, shape) for name, table in tables.items()}
    name, first = next(iter(arrays.items()))
    for other, x in arrays.items():
        expected = f"that of {name}, {first.shape}"
        refuse(x.shape != first.shape, other, f"of shape {x.shape}", expected)
    refuse(not any(map(np.any, arrays.values())), name, "all zero", "at least one comparison")
    arrays.setdefault("ties", np.broadcast_to(0.0, first.shape))
    return arrays.values()


def covariates_of(covariates, shape):
    """Names of the covariates, and their values, shape (*shape, k)."""
    covariates = {} if covariates is None else covariates
    refuse(not isinstance(covariates, dict), "covariates", reprlib.repr(covariates), "a dictionary")
    values = np.empty((*shape, len(covariates)))
    for k, (name, x) in enumerate(covariates.items()):
        values[..., k] = as_shaped(f"covariates[{name!r}]", x, shape, (">", -1e50), ("<", 1e50))
    return tuple(covariates), values


def numbered(**lists):
    """The different labels of the named lists in a row, and for each list the number of each entry.

    A label is hashable, not None, and equal to itself, which a NaN is not.
    """
    number: defaultdict = defaultdict(count().__next__)
    numbers = []
    for name, values in lists.items():
        try:
            if isinstance(values, (str, set, frozenset, dict)):
                raise TypeError  # one label, or labels without an order
            labels = values.tolist() if hasattr(values, "tolist") else list(values)
            numbers.append(np.fromiter(map(number.__getitem__, labels), np.int64, len(labels)))
        except TypeError:
            found = reprlib.repr(values)
            raise ValueError(f"{name} is {found}, expected a list of labels") from None
        for label in [label for label in number if label is None or label != label]:
            refuse(True, f"{name}[{labels.index(label)}]", repr(label), "a label")
    return list(number), *numbers


def names_of(names, wins, n_items):
    """Names of the items as a tuple: `names`, or the labels of `wins`, or 0, 1, ..., n - 1."""
    if names is None:
        names = getattr(wins, "columns", range(n_items))
    different, given = numbered(names=[*names] if isinstance(names, str) else names)
    found = f"{len(given)} entries, of them {len(different)} different"
    good = n_items == len(given) == len(different)
    refuse(not good, "names", found, f"{n_items} different labels", "has")
    return tuple(different)


def _close_integers(*lists):
    """As `numbered`, but without looking up every label: for arrays of integers in a narrow range."""
    if not all(type(x) is np.ndarray and x.dtype.kind == "i" and x.ndim == 1 for x in lists):
        return None
    both = np.concatenate(lists, dtype=np.int64)
    low, high = (int(both.min()), int(both.max())) if both.size else (0, np.inf)
    if high - low > len(both):
        return None
    met = np.bincount(both - low) > 0
    number = (np.cumsum(met) - 1)[both - low]
    return (np.flatnonzero(met) + low).tolist(), *np.split(number, [len(lists[0])])


def indices_of(winners, losers):
    """Indices of the labels in both lists, and the labels: sorted, if they can be."""
    known = _close_integers(winners, losers) or numbered(winners=winners, losers=losers)
    different, first, second = known
    good = len(first) == len(second) > 0
    found = f"{len(first)} entries and losers has {len(second)}"
    refuse(not good, "winners", found, "the same number, at least one", "has")
    types = sorted({type(label).__name__ for label in different})
    found = f"labels of type {' and '.join(types)}"
    refuse(len(types) > 1, "winners and losers", found, "one type", "have")
    labels = different
    with suppress(TypeError):
        labels = sorted(different)
    place = dict(zip(labels, count()))
    ranks = np.array([place[label] for label in different])
    first, second = ranks[first], ranks[second]
    k = (first == second).argmax()
    same = first[k] == second[k]
    refuse(same, f"losers[{k}]", labels[second[k]], "another item than the winner")
    return first, second, tuple(labels)


def some(items):
    """The first of the items, and how many more there are."""
    shown = ", ".join(str(item) for item in items[:5])
    return shown if len(items) <= 5 else f"{shown} and {len(items) - 5} more"
