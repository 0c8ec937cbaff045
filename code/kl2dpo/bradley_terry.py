"""The Bradley-Terry model: strengths from paired comparisons.

Item i beats item j with probability ``a_i / (a_i + a_j)``, where ``a_i > 0`` is its
strength. The estimates are log-strengths ``s_i = ln a_i``. Only their differences
matter, so they are given with sum zero; a difference is in natural-log odds.

Data are a table of wins (`fit`), a list of comparisons (`fit_comparisons`), or two
tables that say who was at home (`fit_home_advantage`).
"""

import reprlib
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kl2dpo._checks import as_count, as_finite, as_number, as_positive, check_shapes, refuse
from kl2dpo._logistic import minus_log_sigmoid, sigmoid

__all__ = [
    "BradleyTerryFit",
    "NoFiniteEstimateError",
    "fit",
    "fit_comparisons",
    "fit_home_advantage",
    "information",
    "log_likelihood",
    "loss",
    "score",
    "win_probability",
]


def win_probability(strength_i, strength_j):
    r"""Probability that item i beats item j.

    .. math::

        P(i \succ j) = \frac{\alpha_i}{\alpha_i + \alpha_j} = \sigma(\ln \alpha_i - \ln \alpha_j)

    Parameters
    ----------
    strength_i, strength_j : array_like
        Strengths (> 0), not log-strengths; they broadcast.

    Returns
    -------
    float or ndarray
        The broadcast shape.

    Raises
    ------
    ValueError
        If a strength is not a positive finite number, or the shapes do not broadcast.

    References
    ----------
    Bradley and Terry (1952), *Rank Analysis of Incomplete Block Designs*.

    Examples
    --------
    >>> win_probability(2, [1, 3])
    array([0.66666667, 0.4       ])
    """
    a, b = as_positive("strength_i", strength_i), as_positive("strength_j", strength_j)
    check_shapes(strength_i=a, strength_j=b)
    return sigmoid(np.log(a) - np.log(b))


def log_likelihood(log_strengths, wins):
    r"""Log-likelihood of the results.

    .. math:: \ln L(s) = \sum_{i,j} w_{ij} \ln \sigma(s_i - s_j)

    It leaves out the binomial coefficients, which do not depend on s: it is the
    likelihood of the results in one order.

    Parameters
    ----------
    log_strengths : array_like, shape (..., n)
        One or several vectors of log-strengths.
    wins : array_like, shape (n, n)
        ``wins[i, j]`` is how often i beat j; a tie is half a win for each.

    Returns
    -------
    float or ndarray
        The shape of `log_strengths` without its last axis, in nats.

    Raises
    ------
    ValueError
        If `wins` is not a square table of non-negative numbers with a zero diagonal
        and at least one comparison, or `log_strengths` is not finite or does not fit it.

    References
    ----------
    Hunter (2004), *MM Algorithms for Generalized Bradley-Terry Models*.

    Examples
    --------
    >>> wins = [[0, 8, 3], [4, 0, 0], [5, 0, 0]]
    >>> log_strengths = np.log([[2, 1, 10 / 3], [2, 1, 3]])
    >>> log_likelihood(log_strengths, wins).round(6)
    array([-12.930676, -12.94117 ])
    """
    s, wins = _as_log_strengths_and_wins(log_strengths, wins)
    winners, losers = np.nonzero(wins)
    return -minus_log_sigmoid(s[..., winners] - s[..., losers]) @ wins[winners, losers]


def loss(log_strengths, wins):
    r"""Mean negative log-likelihood of a comparison.

    .. math:: -\mathrm{E}_{(i, j) \sim D} \ln \frac{\alpha_i}{\alpha_i + \alpha_j}

    where i is the winner and j the loser of a comparison drawn from the data D.

    Parameters
    ----------
    log_strengths, wins
        As in `log_likelihood`.

    Returns
    -------
    float or ndarray
        The shape of `log_strengths` without its last axis, in nats per comparison.

    Raises
    ------
    ValueError
        As `log_likelihood`.

    References
    ----------
    Rafailov et al. (2023), *Direct Preference Optimization*, equation 2, with a reward
    in place of the log-strength.

    Examples
    --------
    Without knowledge, every comparison costs ln 2:

    >>> float(round(loss([0, 0, 0], [[0, 8, 3], [4, 0, 0], [5, 0, 0]]), 6))
    0.693147
    """
    s, wins = _as_log_strengths_and_wins(log_strengths, wins)
    return -log_likelihood(s, wins) / wins.sum()


def score(log_strengths, wins):
    r"""Gradient of the log-likelihood: observed minus expected wins of each item.

    .. math::

        \frac{\partial \ln L}{\partial s_i}
        = \sum_j \bigl( w_{ij} - n_{ij} \sigma(s_i - s_j) \bigr), \qquad n_{ij} = w_{ij} + w_{ji}

    Parameters
    ----------
    log_strengths : array_like, shape (n,)
        Log-strengths.
    wins : array_like, shape (n, n)
        As in `log_likelihood`.

    Returns
    -------
    ndarray, shape (n,)
        It sums to zero.

    Raises
    ------
    ValueError
        As `log_likelihood`.

    References
    ----------
    Chapter 6 of this course derives it in SymPy.

    Examples
    --------
    With equal strengths, A should have won 10 of its 20 games. It won 11:

    >>> score([0, 0, 0], [[0, 8, 3], [4, 0, 0], [5, 0, 0]])
    array([ 1., -2.,  1.])
    """
    s, wins = _as_log_strengths_and_wins(log_strengths, wins, ndim=1)
    ups, downs = _Table(wins).ups_and_downs(s)
    return ups - downs


def information(log_strengths, wins):
    r"""Observed information: minus the second derivatives of the log-likelihood.

    .. math::

        I_{ij} = -n_{ij} p_{ij} p_{ji} \quad (i \ne j), \qquad
        I_{ii} = \sum_{j \ne i} n_{ij} p_{ij} p_{ji}

    with p_ij = sigma(s_i - s_j): the Laplacian of the graph of comparisons, each edge
    weighted by the variance of its result. Its rows sum to zero.

    Parameters
    ----------
    log_strengths, wins
        As in `score`.

    Returns
    -------
    ndarray, shape (n, n)

    Raises
    ------
    ValueError
        As `log_likelihood`.

    References
    ----------
    Chapter 6 of this course derives it in SymPy.

    Examples
    --------
    >>> information([0, 0, 0], [[0, 8, 3], [4, 0, 0], [5, 0, 0]])
    array([[ 5., -3., -2.],
           [-3.,  3.,  0.],
           [-2.,  0.,  2.]])
    """
    s, wins = _as_log_strengths_and_wins(log_strengths, wins, ndim=1)
    return _Table(wins).information(s)


class NoFiniteEstimateError(ValueError):
    """The likelihood has no unique maximum: in some direction it grows, or stays, for ever.

    Attributes
    ----------
    groups : tuple of two tuples
        A split of the items (names, or indices) in which nobody of the first group ever
        lost to anybody of the second one. Empty if no such split is the reason, which
        only a home advantage makes possible.

    References
    ----------
    Ford (1957), *Solution of a Ranking Problem from Binary Comparisons*.
    """

    def __init__(self, message, groups=()):
        super().__init__(message)
        self.groups = groups


@dataclass(frozen=True, repr=False, eq=False)
class BradleyTerryFit:
    """Estimates of the Bradley-Terry model.

    Attributes
    ----------
    items : tuple
        Names of the items, or their indices.
    log_strengths : ndarray, shape (n,)
        Estimates of s, with sum zero.
    n_iterations : int
        How often the score was evaluated.
    converged : bool
        False if `max_iter` was reached first; then a RuntimeWarning was issued too.
    method : str
        ``"zermelo"``, ``"newman"`` or ``"newton"``.
    penalty : float
        Precision of the prior; 0 for maximum likelihood.
    home_advantage : float or None
        Added to the log-odds of the item at home; None if it was not estimated.

    Examples
    --------
    >>> result = fit([[0, 8, 3], [4, 0, 0], [5, 0, 0]], names=["A", "B", "C"])
    >>> result
    BradleyTerryFit of 3 items, log-likelihood -12.930676
    by newman, converged in 6 iterations
      C    0.5716
      A    0.0608
      B   -0.6324
    >>> result.relative_to("B").round(4)
    array([0.6931, 0.    , 1.204 ])
    >>> result.probabilities()[1, 2].round(4)          # B against C, who never met
    np.float64(0.2308)
    """

    items: tuple
    log_strengths: np.ndarray
    n_iterations: int
    converged: bool
    method: str
    penalty: float
    home_advantage: float | None
    _data: Any

    @property
    def strengths(self):
        """Strengths, the exponentials of the log-strengths; their product is one."""
        return np.exp(self.log_strengths)

    @cached_property
    def log_likelihood(self):
        """Log-likelihood at the estimates, without the penalty."""
        return float(self._data.log_likelihood(self._parameters))

    @cached_property
    def covariance(self):
        """Covariance matrix of the estimates, the inverse of the observed information.

        Its shape is (n, n), or (n + 1, n + 1) with the home advantage last. It is computed
        when it is first asked for, and takes memory for n^2 numbers. Without a penalty
        it is the covariance of log-strengths with sum zero. With one it is that of the
        posterior in the approximation of Laplace. A ValueError if the information matrix is
        singular to the limit of rounding.
        """
        matrix = np.array(self._data.information(self._parameters))
        if self.penalty:
            return _inverse(matrix + self.penalty * np.eye(len(matrix)))
        # The information is singular along (1, ..., 1). Any weight on that direction makes
        # it invertible, and is taken out again afterwards.
        n = len(self.items)
        weight = np.trace(matrix) / n
        matrix[:n, :n] += weight / n
        inverse = _inverse(matrix)
        inverse[:n, :n] -= 1 / (weight * n)
        return inverse

    @property
    def _parameters(self):
        home = [] if self.home_advantage is None else [self.home_advantage]
        return np.append(self.log_strengths, home)

    @property
    def home_standard_error(self):
        """Standard error of the home advantage; None if it was not estimated."""
        return None if self.home_advantage is None else float(np.sqrt(self.covariance[-1, -1]))

    def standard_errors(self, reference=None):
        """Standard errors of the log-strengths, shape (n,).

        Parameters
        ----------
        reference : item, optional
            Give the standard errors of the differences from this item, which are those
            of `relative_to`. By default, those of `log_strengths`.

        Returns
        -------
        ndarray, shape (n,)
            In natural-log odds; 0 for the reference.

        Raises
        ------
        ValueError
            If there is no such item.
        """
        n = len(self.items)
        covariance = self.covariance[:n, :n]
        variances = np.diag(covariance)
        if reference is not None:
            k = self._index("reference", reference)
            variances = variances - 2 * covariance[k] + covariance[k, k]
        # Rounding may leave -1e-18 for the reference itself.
        return np.sqrt(np.maximum(variances, 0))

    def relative_to(self, item):
        """Log-strengths minus that of `item`; a ValueError if there is no such item."""
        return self.log_strengths - self.log_strengths[self._index("item", item)]

    def probabilities(self):
        """Matrix of P(i beats j), shape (n, n), without home advantage; 1/2 on the diagonal."""
        return sigmoid(np.subtract.outer(self.log_strengths, self.log_strengths))

    def ranking(self):
        """The items, strongest first; equal ones in the order of `items`."""
        return [self.items[k] for k in np.argsort(-self.log_strengths, kind="stable")]

    def _index(self, name, item):
        try:
            return self.items.index(item)
        except ValueError:
            raise ValueError(
                f"{name} is {item!r}, expected one of the items: {_some(self.items)}"
            ) from None

    def __repr__(self):
        state = "converged" if self.converged else "NOT CONVERGED"
        lines = [
            f"BradleyTerryFit of {len(self.items)} items, log-likelihood {self.log_likelihood:.6f}",
            f"by {self.method}, {state} in {self.n_iterations} iterations",
        ]
        shown = self.ranking()[:10]
        width = max(len(str(item)) for item in shown)
        estimate = dict(zip(self.items, self.log_strengths))
        lines += [f"  {item!s:{width}} {estimate[item]:9.4f}" for item in shown]
        if len(self.items) > len(shown):
            lines.append(f"  ... and {len(self.items) - len(shown)} more")
        if self.home_advantage is not None:
            lines.append(f"  home advantage {self.home_advantage:.4f}")
        return "\n".join(lines)


def fit(wins, *, names=None, method="newman", penalty=0.0, tol=1e-10, max_iter=10_000):
    r"""Estimate log-strengths from a table of wins, by maximum likelihood.

    With a penalty it is the mode of the posterior under the prior
    :math:`s_i \sim N(0, 1/\text{penalty})`, independent: the maximum of

    .. math:: \ln L(s) - \frac{\text{penalty}}{2} \sum_i s_i^2

    Parameters
    ----------
    wins : array_like, shape (n, n)
        ``wins[i, j]`` is how often i beat j; a tie is half a win for each.
    names : sequence, optional
        Names of the items. By default they are called 0, 1, ..., n - 1.
    method : ``{"newman", "zermelo", "newton"}``
        The iteration. Newman's is the fastest one where most items have met many others.
        Newton's takes the fewest steps, and is the one for long chains, rings and trees
        of comparisons, where the other two need thousands. Zermelo's is the oldest and
        the slowest.
    penalty : float, default 0
        Precision of a Gaussian prior; above 0 the estimate is finite for all data.
        It needs ``method="newton"``: the other two have no closed form for it.
    tol : float, default 1e-10
        The fit has converged when, for each item, what pushes it up and what pushes it
        down differ by at most the fraction `tol` of their sum (chapter 6 explains these
        pushes). Newman's step is then at most about 2 tol.
    max_iter : int, default 10000
        The largest number of evaluations of the score.

    Returns
    -------
    BradleyTerryFit
        With ``converged=False``, and a RuntimeWarning, if `max_iter` is reached.

    Raises
    ------
    NoFiniteEstimateError
        If there is no penalty and the items can be split into two groups such that
        nobody of the first ever lost to anybody of the second.
    ValueError
        If `wins` is not as in `log_likelihood`, or another argument is out of range.

    References
    ----------
    Zermelo (1929), *Die Berechnung der Turnier-Ergebnisse als ein Maximumproblem der
    Wahrscheinlichkeitsrechnung*. Newman (2023), *Efficient Computation of
    Rankings from Pairwise Comparisons*.

    Examples
    --------
    >>> result = fit([[0, 8, 3], [4, 0, 0], [5, 0, 0]])
    >>> (result.strengths / result.strengths[1]).round(6)
    array([2.      , 1.      , 3.333333])
    """
    wins = _as_wins("wins", wins)
    items = _as_names(names, len(wins))
    return _fit(_Table(wins), items, method, penalty, tol, max_iter)


def fit_comparisons(
    winners,
    losers,
    *,
    weights=None,
    n_items=None,
    names=None,
    method="newman",
    penalty=0.0,
    tol=1e-10,
    max_iter=10_000,
):
    """Estimate log-strengths from a list of comparisons, as `fit` does from a table.

    Memory grows with the number of comparisons and of items, never with n^2 alone.

    Parameters
    ----------
    winners, losers : array_like, shape (m,)
        The winner and the loser of each comparison: indices from 0, or names.
    weights : array_like, shape (m,), optional
        How much each comparison counts (>= 0), by default 1. A tie is two comparisons,
        one each way, of weight 1/2.
    n_items : int, optional
        Number of items, if they are given by index. By default the largest index plus
        one, or the number of `names`.
    names : sequence, optional
        Names of the items, if they are given by index.
    method, penalty, tol, max_iter
        As in `fit`.

    Returns
    -------
    BradleyTerryFit
        Items that were given by name are sorted as Python sorts strings.

    Raises
    ------
    NoFiniteEstimateError
        As `fit`.
    ValueError
        If the arrays differ in length, an index or a weight is out of range, or an item
        is compared with itself; or as in `fit`.

    References
    ----------
    As `fit`.

    Examples
    --------
    >>> result = fit_comparisons(["ann", "ann", "bob", "cid"], ["bob", "cid", "ann", "ann"])
    >>> result.items
    ('ann', 'bob', 'cid')
    >>> abs(result.log_strengths).max().round(9)
    np.float64(0.0)
    """
    winners, losers, items = _as_items(winners, losers, names, n_items)
    counts = np.ones(len(winners)) if weights is None else as_finite("weights", weights)
    if counts.shape != winners.shape:
        raise ValueError(
            f"weights has shape {counts.shape}, expected that of winners, {winners.shape}"
        )
    refuse(counts < 0, "weights", counts, "a number >= 0")
    _check_total("weights", counts)
    # With so many comparisons, a table takes no more memory than the list.
    dense = len(items) ** 2 <= len(winners)
    data = (_Table.of if dense else _Edges)(winners, losers, counts, len(items))
    return _fit(data, items, method, penalty, tol, max_iter)


def fit_home_advantage(home_wins, away_wins, *, names=None, tol=1e-10, max_iter=10_000):
    r"""Estimate log-strengths and the advantage of playing at home, by maximum likelihood.

    .. math:: P(i \text{ at home beats } j) = \sigma(s_i - s_j + \eta)

    Parameters
    ----------
    home_wins, away_wins : array_like, shape (n, n)
        At the home of i, i beat j ``home_wins[i, j]`` times, and j beat i
        ``away_wins[i, j]`` times.
    names, tol, max_iter
        As in `fit`. The method is Newton's.

    Returns
    -------
    BradleyTerryFit
        With `home_advantage` :math:`\eta`, and `home_standard_error`.

    Raises
    ------
    NoFiniteEstimateError
        As `fit`; or if a large enough home advantage, of either sign, agrees with every
        result, so that eta has no finite estimate.
    ValueError
        As `fit`, for `home_wins` and for `away_wins`: so if no game was won at home, or none
        away.

    References
    ----------
    Agresti (2002), *Categorical Data Analysis*, 2nd ed., chapter 10.

    Examples
    --------
    Two equal teams, each of which wins two of three games at home; eta is ln 2:

    >>> result = fit_home_advantage([[0, 2], [2, 0]], [[0, 1], [1, 0]])
    >>> round(result.home_advantage, 6), result.log_strengths.round(6)
    (0.693147, array([0., 0.]))
    """
    home, away = _as_wins("home_wins", home_wins), _as_wins("away_wins", away_wins)
    if home.shape != away.shape:
        raise ValueError(
            f"away_wins has shape {away.shape}, expected that of home_wins, {home.shape}"
        )
    data = _HomeTable(home, away)
    _check_home_advantage(data)
    return _fit(data, _as_names(names, len(home)), "newton", 0.0, tol, max_iter)


# The data. All classes answer the same questions: `_Table` for a matrix of wins, in which
# most pairs have met, `_Edges` for a list of who beat whom, `_HomeTable` with a further
# parameter. What moves an estimate is the surprise of each result, the probability that
# the model gave to the opposite one: it pushes the winner up and the loser down. The score
# of an item is its ups minus its downs.


class _Table:
    """Comparisons in a dense matrix of wins."""

    def __init__(self, wins):
        self.wins = wins
        self.n_wins = wins.sum(axis=1)
        self.n_parameters = len(wins)

    @classmethod
    def of(cls, winners, losers, counts, n_items):
        pair = winners * n_items + losers
        return cls(np.bincount(pair, counts, n_items**2).reshape(n_items, n_items))

    def ups_and_downs(self, s):
        # In place: with a million pairs, new arrays cost as much time as the arithmetic.
        with np.errstate(over="ignore"):
            if np.ptp(s) < 600:
                # n exponentials instead of n^2; none of them overflows.
                surprise = np.multiply.outer(np.exp(s - s.mean()), np.exp(s.mean() - s))
            else:
                surprise = np.exp(np.subtract.outer(s, s))
        surprise += 1
        np.divide(self.wins, surprise, out=surprise)
        return surprise.sum(axis=1), surprise.sum(axis=0)

    def log_likelihood(self, s):
        return log_likelihood(s, self.wins)

    def information(self, s):
        p = sigmoid(np.subtract.outer(s, s))
        return _laplacian((self.wins + self.wins.T) * p * p.T)

    def losers_to(self, group):
        return self.wins[group].any(axis=0)

    def winners_over(self, group):
        return self.wins[:, group].any(axis=1)


class _HomeTable(_Table):
    """Comparisons in two dense matrices; the last parameter is the home advantage."""

    def __init__(self, home, away):
        super().__init__(home + away.T)
        self.home, self.away = home, away
        self.n_parameters += 1

    def _log_odds(self, parameters):
        s, advantage = parameters[:-1], parameters[-1]
        return np.subtract.outer(s, s) + advantage

    def ups_and_downs(self, parameters):
        log_odds = self._log_odds(parameters)
        home, away = self.home * sigmoid(-log_odds), self.away * sigmoid(log_odds)
        ups = np.append(home.sum(axis=1) + away.sum(axis=0), home.sum())
        downs = np.append(away.sum(axis=1) + home.sum(axis=0), away.sum())
        return ups, downs

    def log_likelihood(self, parameters):
        log_odds = self._log_odds(parameters)
        against = self.home * minus_log_sigmoid(log_odds)
        against += self.away * minus_log_sigmoid(-log_odds)
        return -against.sum()

    def information(self, parameters):
        log_odds = self._log_odds(parameters)
        weights = (self.home + self.away) * sigmoid(log_odds) * sigmoid(-log_odds)
        border = weights.sum(axis=1) - weights.sum(axis=0)
        strengths = _laplacian(weights + weights.T)
        return np.block([[strengths, border[:, None]], [border, weights.sum()]])


class _Edges:
    """Comparisons in a list; equal ones are merged into one with a count."""

    def __init__(self, winners, losers, counts, n_items):
        some = counts > 0
        pair, place = np.unique((winners * n_items + losers)[some], return_inverse=True)
        self.winners, self.losers = np.divmod(pair, n_items)
        self.counts, self.n_items = np.bincount(place, counts[some]), n_items
        self.n_wins = self.sums(self.winners, self.counts)
        self.n_parameters = n_items

    def sums(self, items, values):
        return np.bincount(items, values, self.n_items)

    def differences(self, s):
        return s.take(self.winners) - s.take(self.losers)

    def ups_and_downs(self, s):
        surprise = self.counts * sigmoid(-self.differences(s))
        return self.sums(self.winners, surprise), self.sums(self.losers, surprise)

    def log_likelihood(self, s):
        return -minus_log_sigmoid(self.differences(s)) @ self.counts

    def information(self, s):
        log_odds = self.differences(s)
        return _EdgeLaplacian(self, self.counts * sigmoid(log_odds) * sigmoid(-log_odds))

    def losers_to(self, group):
        return self.sums(self.losers, group[self.winners]) > 0

    def winners_over(self, group):
        return self.sums(self.winners, group[self.losers]) > 0


def _laplacian(weights):
    """The Laplacian of a graph, from its symmetric matrix of weights (zero diagonal)."""
    return np.diag(weights.sum(axis=1)) - weights


class _EdgeLaplacian:
    """The same from a list of edges: it multiplies vectors without being formed."""

    def __init__(self, edges, weights):
        self.edges, self.weights = edges, weights

    def __matmul__(self, x):
        flow = self.weights * self.edges.differences(x)
        return self.edges.sums(self.edges.winners, flow) - self.edges.sums(self.edges.losers, flow)

    def diagonal(self):
        edges = self.edges
        return edges.sums(edges.winners, self.weights) + edges.sums(edges.losers, self.weights)

    def __array__(self, dtype=None, copy=None):
        n = self.edges.n_items
        pair = self.edges.winners * n + self.edges.losers
        weights = np.bincount(pair, self.weights, n * n).reshape(n, n)
        return _laplacian(weights + weights.T).astype(dtype)


# The estimates


def _fit(data, items, method, penalty, tol, max_iter):
    """Check the options, then climb."""
    if not isinstance(method, str) or method not in _STEPS:
        raise ValueError(f"method is {method!r}, expected one of {_some(sorted(_STEPS))}")
    penalty = as_number("penalty", penalty, (">=", 0))
    tol = as_number("tol", tol, (">=", 0))
    max_iter = as_count("max_iter", max_iter, at_least=1)
    if penalty and method != "newton":
        raise ValueError(
            f"method is {method!r}, expected 'newton' with a penalty: "
            "the other iterations have no closed form for it"
        )
    if not penalty:
        _check_connected(data, items)

    parameters, n_iterations, error = _climb(data, _STEPS[method], penalty, tol, max_iter)
    converged = bool(error <= tol)
    if not converged:
        warnings.warn(
            f"no convergence in max_iter={max_iter} iterations: the pushes on an item differ by "
            f"{error:.1e} of their sum, expected at most tol={tol}; try method='newton', or a "
            "larger max_iter",
            RuntimeWarning,
            stacklevel=3,
        )
    s = parameters[: len(items)]
    s -= s.mean()  # exact with a penalty too: at its maximum the sum is zero
    return BradleyTerryFit(
        items=items,
        log_strengths=s,
        n_iterations=n_iterations,
        converged=converged,
        method=method,
        penalty=penalty,
        home_advantage=float(parameters[-1]) if len(parameters) > len(items) else None,
        _data=data,
    )


def _climb(data, find_step, penalty, tol, max_iter):
    """Climb the concave log-likelihood by steps that never lower it.

    The slope is that of the log-likelihood along a step. At the start it is positive. If
    it still is at the end, the likelihood has risen, because it is concave. If not, the
    step went beyond the top, and half of it is tried, unless both the step and the
    overshoot are small: over the part t of a step of which no difference is above 2, the
    logarithm of the curvature changes by at most 2t, and then the likelihood has risen
    if the slope at the end is at least minus half of the first one. (Without halving,
    Newman's iteration would jump for ever between two points on a graph like A - B.)
    """
    s = trial = step = np.zeros(data.n_parameters)
    slope, error = 0.0, np.inf
    for iteration in range(1, max_iter + 1):
        ups, downs = data.ups_and_downs(trial)
        pull = penalty * trial
        score = ups - downs - pull
        pushes = ups + downs + np.abs(pull)
        allowed = slope / 2 if 3 * np.max(np.abs(step)) <= 2 else 0.0
        if score @ step < -allowed:
            step, slope = step / 2, slope / 2
        else:
            s, error = trial, np.max(np.abs(score) / np.where(pushes > 0, pushes, 1))
            if error <= tol:
                return s, iteration, error
            step = find_step(data, s, ups, downs, penalty)
            slope = score @ step
            if not 0 < slope < np.inf:
                # Rounding has spoilt the step: go up each slope on its own.
                step = score / np.where(pushes > 0, pushes, 1)
                slope = score @ step
        trial = s + step
    return s, max_iter, error


def _zermelo_step(data, s, ups, downs, penalty):
    """From s to ln(wins / sum of n_ij / (a_i + a_j)): the log of observed over expected wins."""
    return np.log(data.n_wins) - np.log(data.n_wins - (ups - downs))


def _newman_step(data, s, ups, downs, penalty):
    """From s to ln(sum of w_ij a_j / (a_i + a_j)) - ln(sum of w_ji / (a_i + a_j))."""
    # A probability too small for a float is not zero.
    tiny = np.finfo(float).tiny
    return np.log(np.maximum(ups, tiny)) - np.log(np.maximum(downs, tiny))


def _newton_step(data, s, ups, downs, penalty):
    """Solve (information + penalty) step = score, by preconditioned conjugate gradients.

    They need products with the matrix only, which a list of comparisons has without
    forming it, and find a solution although, without a penalty, the matrix is singular along
    (1, ..., 1).
    """
    information = data.information(s)
    diagonal = information.diagonal() + penalty
    diagonal = np.maximum(diagonal, 1e-15 * diagonal.max())
    residual = ups - downs - penalty * s
    step, direction, size = np.zeros(len(s)), 0.0, np.inf
    target = 1e-4 * np.linalg.norm(residual)
    for _ in range(2 * len(s)):
        scaled = residual / diagonal
        size, previous = residual @ scaled, size
        direction = scaled + size / previous * direction
        image = information @ direction + penalty * direction
        curvature = direction @ image
        # What is left of a singular system at the limit of rounding lies along (1, ..., 1).
        if curvature <= 1e-15 * (direction**2 @ diagonal):
            break
        step = step + size / curvature * direction
        residual = residual - size / curvature * image
        if np.linalg.norm(residual) <= target:
            break
    return step


_STEPS = {"zermelo": _zermelo_step, "newman": _newman_step, "newton": _newton_step}


# When there is an estimate


def _check_connected(data, items):
    """Ford's condition, or a NoFiniteEstimateError that shows a split against it."""
    below = _reached(data.losers_to, len(items))
    above = _reached(data.winners_over, len(items))
    if below.all() and above.all():
        return
    # Whom item 0 has not beaten, not even through others, never lost to those whom it has.
    # If there is nobody of this kind, it never lost to those who have not beaten it.
    upper = ~below if not below.all() else above
    met = data.losers_to(upper)[~upper].any()
    groups = tuple(tuple(items[k] for k in np.flatnonzero(g)) for g in (upper, ~upper))
    first, second = map(_some, groups)
    raise NoFiniteEstimateError(
        f"no finite maximum-likelihood estimate: {first} "
        + (f"never lost to {second}" if met else f"never met {second}")
        + ", so any larger distance between them fits as well or better. "
        "Add comparisons, or a penalty > 0",
        groups,
    )


def _reached(neighbours, n_items):
    """Which items can be reached from item 0, where `neighbours` gives the next ones of a group."""
    reached = new = np.arange(n_items) == 0
    while new.any():
        new = neighbours(new) & ~reached
        reached = reached | new
    return reached


def _check_home_advantage(data):
    """A NoFiniteEstimateError if a home advantage that grows for ever agrees with all results.

    It does if strengths exist that balance it: no item that won at home is more than 1
    weaker than the loser, and every one that won away is at least 1 stronger (for a
    negative advantage, home and away change places). Such bounds contradict each other
    if, and only if, those along some cycle of wins have a negative sum, and then lowering
    the upper bounds never ends (Bellman and Ford).
    """
    n = len(data.wins)
    for sign, word in [(1, "large"), (-1, "negative")]:
        # bound[i, j]: how much stronger than the winner i the loser j may be.
        bound = np.where(data.home, sign, np.inf)
        bound = np.minimum(bound, np.where(data.away, -sign, np.inf).T)
        highest = np.zeros(n)
        for _ in range(n):
            before = highest
            highest = np.minimum(highest, (highest[:, None] + bound).min(axis=0))
        if np.array_equal(before, highest):
            raise NoFiniteEstimateError(
                f"no finite estimate of the home advantage: with strengths that balance it, a "
                f"{word} enough one fits as well or better, since no cycle of wins speaks against it"
            )


def _inverse(matrix):
    try:
        return np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        raise ValueError(
            "no covariance: the information matrix is singular to the limit of rounding"
        ) from None


# The arguments


def _as_wins(name, value):
    """Return `value` as a table of wins."""
    wins = as_finite(name, value)
    if wins.ndim != 2 or wins.shape[0] != wins.shape[1] or len(wins) < 2:
        raise ValueError(f"{name} has shape {wins.shape}, expected (n, n) with n >= 2")
    refuse(wins < 0, name, wins, "a number >= 0")
    if np.diag(wins).any():
        k = int(np.flatnonzero(np.diag(wins))[0])
        raise ValueError(f"{name}[{k}, {k}] is {wins[k, k]}, expected 0 on the diagonal")
    _check_total(name, wins)
    return wins


def _check_total(name, counts):
    with np.errstate(over="ignore"):
        total = counts.sum()
    if not 0 < total < 1e100:
        raise ValueError(f"{name} has the sum {total}, expected a number above 0 and below 1e100")
    refuse((counts > 0) & (counts < 1e-100), name, counts, "0, or a number of at least 1e-100")


def _as_log_strengths_and_wins(log_strengths, wins, ndim=None):
    """Return both, with one log-strength for each item."""
    s, wins = as_finite("log_strengths", log_strengths), _as_wins("wins", wins)
    if s.ndim < 1 or s.shape[-1] != len(wins) or (ndim and s.ndim != ndim):
        expected = f"({len(wins)},)" if ndim else f"(..., {len(wins)})"
        raise ValueError(
            f"log_strengths has shape {s.shape}, expected {expected}, as wins has {len(wins)} items"
        )
    return s, wins


def _as_names(names, n_items=None):
    """Return the names of the items as a tuple; their indices if there are none."""
    if names is None:
        return tuple(range(n_items))
    try:
        if isinstance(names, (set, frozenset)):
            raise TypeError
        names = tuple(names)
        distinct = len(set(names))
    except TypeError:
        raise ValueError(
            f"names must be a sequence of names, found {reprlib.repr(names)}"
        ) from None
    if n_items is not None and len(names) != n_items:
        raise ValueError(
            f"names has {len(names)} entries, expected one for each of {n_items} items"
        )
    if distinct < len(names):
        raise ValueError(f"names are not distinct: {_some(names)}")
    return names


def _as_items(winners, losers, names, n_items):
    """Return winners and losers as indices, and the names of the items."""
    winners, losers = _as_vector("winners", winners), _as_vector("losers", losers)
    if winners.shape != losers.shape:
        raise ValueError(
            f"winners has shape {winners.shape} and losers {losers.shape}, expected the same shape"
        )
    kinds = {winners.dtype.kind, losers.dtype.kind}
    if not (kinds == {"U"} or kinds <= {"i", "u"}):
        raise ValueError(
            f"winners has dtype {winners.dtype} and losers {losers.dtype}, "
            "expected integers for both, or strings for both"
        )
    refuse(winners == losers, "losers", losers, "another item than the winner")
    if kinds == {"U"}:
        if names is not None or n_items is not None:
            raise ValueError(
                "names and n_items are for items given by index, but winners has names"
            )
        items, indices = np.unique(np.append(winners, losers), return_inverse=True)
        return *np.split(indices, 2), tuple(items.tolist())

    refuse(winners < 0, "winners", winners, "an index >= 0")
    refuse(losers < 0, "losers", losers, "an index >= 0")
    if n_items is not None:
        n_items = as_count("n_items", n_items, at_least=2)
    elif names is None:
        n_items = max(int(winners.max()), int(losers.max())) + 1
    items = _as_names(names, n_items)
    for name, indices in [("winners", winners), ("losers", losers)]:
        refuse(indices >= len(items), name, indices, f"an index from 0 to {len(items) - 1}")
    return winners.astype(np.int64), losers.astype(np.int64), items


def _as_vector(name, items):
    try:
        array = np.asarray(items)
        if array.dtype.kind in "OT":
            # Strings that NumPy keeps as objects: let it look at them again.
            array = np.asarray(array.tolist())
    except ValueError:
        raise ValueError(f"{name} must be one-dimensional, found {reprlib.repr(items)}") from None
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{name} has shape {array.shape}, expected (m,) with m >= 1")
    return array


def _some(items):
    """The first of the items, and how many more there are."""
    shown = ", ".join(str(item) for item in items[:5])
    return shown if len(items) <= 5 else f"{shown} and {len(items) - 5} more"
