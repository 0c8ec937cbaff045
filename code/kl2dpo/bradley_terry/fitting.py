"""Estimates from a table of wins, from a list of comparisons, and with covariates."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from kl2dpo._checks import as_count, as_number, as_shaped, check_labels, refuse
from kl2dpo._logistic import sigmoid
from kl2dpo.bradley_terry import _climb, _comparisons
from kl2dpo.bradley_terry._climb import NoFiniteEstimateError
from kl2dpo.bradley_terry._comparisons import as_counts, as_tables, names_of, some

__all__ = ["BradleyTerryFit", "Difference", "NoFiniteEstimateError"]
__all__ += ["fit", "fit_comparisons", "fit_home_advantage"]

SINGULAR = "no standard errors: the information matrix is singular to the limit of rounding"

# A matrix of this many items takes 800 MB, its inverse some copies of that.
LARGEST_MATRIX = 10_000


class Difference(NamedTuple):
    """A difference of two log-strengths, in natural-log odds, and its standard error."""

    estimate: float
    standard_error: float


@dataclass(frozen=True, repr=False, eq=False)
class BradleyTerryFit:
    """Estimates of the Bradley-Terry model.

    Attributes
    ----------
    items : tuple
        The items: their labels, or their places in the table.
    log_strengths : ndarray, shape (n,)
        Estimates of s, with sum zero.
    coefficients : dict
        The estimated coefficient of each covariate: its effect on the log-odds per unit.
    n_iterations : int
        How often the score was evaluated.
    converged : bool
        False if `max_iter` was reached first; then a RuntimeWarning was issued too.
    method : str
        ``"newton"``, ``"newman"`` or ``"zermelo"``.
    penalty : float
        Precision of the prior; 0 for maximum likelihood.

    Notes
    -----
    Errors are of one of three kinds. Those of the ``"model"`` are right if the model is, and
    nobody ties. The ``"sandwich"`` estimates how much the results vary from the results: it is
    right with ties of any law, and where the model is wrong, for the limit of the estimates;
    it takes weights for counts of independent comparisons. ``"rows"`` is the sandwich for a list
    whose weights are not counts: it takes each entry for one comparison. By default, it is the
    sandwich where ties were given as such, and otherwise the model.

    Examples
    --------
    >>> result = fit([[0, 8, 3], [4, 0, 0], [5, 0, 0]], names=["A", "B", "C"])
    >>> result
    BradleyTerryFit of 3 items, log-likelihood -12.930676
    by newton, converged in 5 iterations
      C    0.5716
      A    0.0608
      B   -0.6324
    >>> result.relative_to("B").round(4)
    array([0.6931, 0.    , 1.204 ])
    >>> round(result.win_probability("B", "C"), 4)          # who never met
    0.2308
    """

    items: tuple
    log_strengths: np.ndarray
    coefficients: dict
    n_iterations: int
    converged: bool
    method: str
    penalty: float
    _data: Any
    _squared: Callable | None  # the data of a list with the squares of its weights

    @property
    def strengths(self):
        """Strengths, the exponentials of the log-strengths; their product is one."""
        return np.exp(self.log_strengths)

    @property
    def _theta(self):
        """The parameters in the units of the data."""
        return self._data.units * [*self.log_strengths, *self.coefficients.values()]

    @cached_property
    def log_likelihood(self):
        """Log-likelihood at the estimates, without the penalty."""
        return float(self._data.rows.log_likelihood(self._theta))

    @cached_property
    def deviance(self):
        """Twice the log-likelihood by which a free probability for each cell would fit better.

        A cell has the comparisons of two items with the same covariates.
        """
        counts = np.array([self._data.rows.wins, self._data.rows.losses])
        shares = np.divide(counts, counts.sum(axis=0), out=np.ones_like(counts), where=counts > 0)
        return float(2 * (np.sum(counts * np.log(shares)) - self.log_likelihood))

    @property
    def degrees_of_freedom(self):
        """Cells (see `deviance`) less free parameters."""
        cells = np.count_nonzero(self._data.rows.wins + self._data.rows.losses)
        return cells - (len(self._theta) - 1)

    def covariance(self, kind=None):
        """Covariance matrix of the estimates, of one of the kinds under Notes.

        Its shape is (n + k, n + k), with k covariates last. That of the log-strengths is of
        their differences from their mean. With a penalty it is that of the posterior in the
        approximation of Laplace. A ValueError if the information matrix is singular to the
        limit of rounding, or there are more than 10,000 items.
        """
        self._check_size("covariance")
        matrix = np.array(self._data.rows.information(self._theta))
        matrix += np.diag(self.penalty / self._data.units**2)
        # Along (1, ..., 1) the data say nothing. Any weight on that direction makes the matrix
        # invertible, and is taken out again afterwards, with the penalty.
        n, meat = len(self.items), self._meat(kind)
        weight = np.trace(matrix[:n, :n]) / n
        matrix[:n, :n] += weight / n
        try:
            inverse = np.linalg.inv(matrix)
        except np.linalg.LinAlgError:
            raise ValueError(SINGULAR) from None
        if np.abs(np.einsum("ij,ji->i", matrix, inverse) - 1).max() > 1e-3:
            raise ValueError(SINGULAR)
        inverse[:n, :n] -= 1 / ((weight + self.penalty) * n)
        covariance = inverse if meat is None else inverse @ np.array(meat) @ inverse
        return covariance / np.outer(self._data.units, self._data.units)

    def _meat(self, kind):
        """What stands between the two inverses of a sandwich; None for the model."""
        if kind is None:
            kind = "sandwich" if np.any(self._data.rows.ties) else "model"
        known = ["model", "sandwich", "rows"]
        refuse(kind not in known, "kind", repr(kind), "model, sandwich or rows")
        data = self._squared() if kind == "rows" and self._squared else self._data
        return None if kind == "model" else data.rows.squared_errors(self._theta)

    def standard_errors(self, reference=None, *, kind=None):
        """Standard errors of the log-strengths, shape (n,).

        Parameters
        ----------
        reference : item, optional
            Give the standard errors of the differences from this item, which are those
            of `relative_to`. By default, those of `log_strengths`.
        kind : ``{"model", "sandwich", "rows"}``, optional
            See Notes.

        Returns
        -------
        ndarray, shape (n,)
            In natural-log odds; 0 for the reference.

        Raises
        ------
        ValueError
            If there is no such item or kind; or as `covariance`.
        """
        n = len(self.items)
        covariance = self.covariance(kind)[:n, :n]
        variances = np.diag(covariance)
        if reference is not None:
            k = self._index("reference", reference)
            variances = variances - 2 * covariance[k] + covariance[k, k]
        # Rounding may leave -1e-18 for the reference itself.
        return np.sqrt(np.maximum(variances, 0))

    def coefficient_errors(self, *, kind=None):
        """Standard errors of the coefficients, a dictionary with the names of the covariates."""
        contrasts = np.eye(len(self.coefficients), len(self._theta), len(self.items))
        return {name: self._error(x, kind) for name, x in zip(self.coefficients, contrasts)}

    def difference(self, item, other, *, kind=None):
        """By how much `item` is stronger than `other`, with its error, for any number of items.

        Parameters
        ----------
        item, other : item
        kind : ``{"model", "sandwich", "rows"}``, optional
            See Notes.

        Returns
        -------
        Difference
            Named tuple ``(estimate, standard_error)``.

        Raises
        ------
        ValueError
            If there is no such item or kind.

        Examples
        --------
        >>> result = fit([[0, 8, 3], [4, 0, 0], [5, 0, 0]], names="ABC")
        >>> estimate, error = result.difference("B", "C")
        >>> round(estimate, 4), round(error**2 * 120, 4)
        (-1.204, 109.0)
        """
        contrast = np.zeros(len(self._theta))
        contrast[self._index("item", item)] += 1
        contrast[self._index("other", other)] -= 1
        return Difference(float(contrast @ self._theta), self._error(contrast, kind))

    def _error(self, contrast, kind):
        """Standard error of contrast'theta, without the inverse of the information."""
        contrast, prior = contrast / self._data.units, self.penalty / self._data.units**2
        information = self._data.rows.information(self._theta)
        x = _climb.solve(information, contrast, prior, tol=1e-10)
        left = contrast - information @ x - prior * x
        if np.linalg.norm(left) > 1e-4 * np.linalg.norm(contrast):
            raise ValueError(SINGULAR)
        meat = self._meat(kind)
        return float(np.sqrt(contrast @ x if meat is None else x @ (meat @ x)))

    def relative_to(self, item):
        """Log-strengths minus that of `item`; a ValueError if there is no such item."""
        return self.log_strengths - self.log_strengths[self._index("item", item)]

    def win_probability(self, item, other, **covariates):
        """Probability that `item` beats `other`; covariates that are not given are 0."""
        unknown = not covariates.keys() <= self.coefficients.keys()
        known = f"some of: {some([*self.coefficients]) or 'none'}"
        refuse(unknown, "covariates", some([*covariates]), known, "has")
        log_odds = self.relative_to(other)[self._index("item", item)]
        log_odds += sum(self.coefficients[x] * as_number(x, v) for x, v in covariates.items())
        return float(sigmoid(log_odds))

    def probabilities(self):
        """Matrix of P(i beats j), shape (n, n), with all covariates 0; 1/2 on the diagonal."""
        self._check_size("probabilities")
        return sigmoid(np.subtract.outer(self.log_strengths, self.log_strengths))

    def ranking(self):
        """The items, strongest first; equal ones in the order of `items`."""
        return [self.items[k] for k in np.argsort(-self.log_strengths, kind="stable")]

    def largest_group(self):
        """The largest group of items of which each has beaten each other, if only through others.

        Its comparisons determine the differences in it without a prior: all items, if there is
        no penalty.
        """
        return tuple(self.items[k] for k in _climb.largest_group(self._data))

    def _index(self, name, item):
        known = f"one of the items: {some(self.items)}"
        refuse(item not in self.items, name, repr(item), known)
        return self.items.index(item)

    def _check_size(self, what):
        n = len(self.items)
        found, advice = f"{8 * n**2 / 2**30:.1f} GiB", "see `difference` and `win_probability`"
        expected = f"at most {LARGEST_MATRIX} items; for two items {advice}"
        refuse(n > LARGEST_MATRIX, f"{what} of {n} items", found, expected, "takes")

    def __repr__(self):
        state = "converged" if self.converged else "NOT CONVERGED"
        n, shown = len(self.items), self.ranking()[:10]
        width, strengths = max(len(str(item)) for item in shown), np.sort(self.log_strengths)[::-1]
        lines = [f"BradleyTerryFit of {n} items, log-likelihood {self.log_likelihood:.6f}"]
        lines += [f"by {self.method}, {state} in {self.n_iterations} iterations"]
        lines += [f"  {item!s:{width}} {s:9.4f}" for item, s in zip(shown, strengths)]
        lines += [f"  ... and {n - 10} more"] * (n > 10)
        lines += [f"  {name}: {value:.4f} a unit" for name, value in self.coefficients.items()]
        return "\n".join(lines)


def fit(
    wins,
    *,
    ties=None,
    covariates=None,
    names=None,
    method="newton",
    penalty=0.0,
    tol=1e-10,
    max_iter=10_000,
):
    r"""Estimate log-strengths from a table of wins, by maximum likelihood.

    With covariates x, the log-odds of a result are :math:`s_i - s_j + \gamma \cdot x`. With a
    penalty the estimate is the mode of the posterior under independent priors
    :math:`N(0, 1/\text{penalty})`: the maximum of

    .. math:: \ln L(s, \gamma) - \frac{\text{penalty}}{2} \Bigl( \sum_i s_i^2 + \sum_c \gamma_c^2 \Bigr)

    Parameters
    ----------
    wins : array_like, shape (n, n) or (..., n, n)
        ``wins[i, j]`` is how often i beat j; or several such tables, for example one for each
        place. The labels of a pandas DataFrame are used.
    ties : array_like, the shape of `wins`, optional
        ``ties[i, j]`` is how often i and j tied; each tie is entered once, at [i, j] or at
        [j, i]. In the estimate it is half a win for each, in the errors it is a tie. (Half
        wins that are entered in `wins` give the same estimate, and errors that are too large.)
    covariates : dict of str to array_like, optional
        For each covariate its value for the winner minus that for the loser in the entries of
        `wins`, to whose shape it broadcasts: for a table of wins at home and one of wins away,
        ``{"home": [[[1]], [[-1]]]}``.
    names : sequence, optional
        Names of the items. By default they are called 0, 1, ..., n - 1.
    method : ``{"newton", "newman", "zermelo"}``
        The iteration, for all items at once, until rounding stops it. Newton's step solves :math:`I\,\Delta s` = score,
        with the information I. Newman's goes to the logarithm of the ratio of what
        pushes an item up, :math:`\sum_j w_{ij} p_{ji}`, to what pushes it down,
        :math:`\sum_j w_{ji} p_{ij}`. Zermelo's goes to that of its wins to those expected. The
        last two need thousands of rounds where few items have met many others, and know
        neither penalty nor covariates.
    penalty : float, default 0
        Precision of a Gaussian prior; above 0 the estimate is finite for all data.
    tol : float, default 1e-10
        The fit has converged when, for each parameter, what pushes it up and what pushes it
        down differ by at most the fraction `tol` of their sum. Newman's step is then at most about
        2 tol. (Groups that met each other 1e8 times less than within need a smaller one.)
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
        nobody of the first ever lost to anybody of the second, if a covariate cannot be told
        from the differences of the items, or if any larger effect of it fits as well or better.
    ValueError
        If `wins` is not as in `log_likelihood`, or another argument is out of range.

    References
    ----------
    Zermelo (1929), *Die Berechnung der Turnier-Ergebnisse als ein Maximumproblem der
    Wahrscheinlichkeitsrechnung*. Newman (2023), *Efficient Computation of
    Rankings from Pairwise Comparisons*. White (1982), *Maximum Likelihood Estimation of
    Misspecified Models*, for the sandwich.

    Notes
    -----
    Newton's step is found by conjugate gradients, in a number of rounds that grows with the
    number of comparisons between the items that are farthest apart. Random graphs and stars of
    100,000 items take seconds, a square grid of 10,000 less than one. A chain or a ring needs as
    many rounds as it has items, so its time grows with the square: 10,000 items take some
    seconds, 100,000 some minutes.

    Examples
    --------
    >>> result = fit([[0, 8, 3], [4, 0, 0], [5, 0, 0]])
    >>> (result.strengths / result.strengths[1]).round(6)
    array([2.      , 1.      , 3.333333])
    """
    table = wins
    wins, ties = as_tables("(n, n) or (..., n, n)", wins=wins, ties=ties)
    items = names_of(names, table, wins.shape[-1])
    labels, values = _comparisons.covariates_of(covariates, wins.shape)
    data = _comparisons.of_tables(wins, ties, values)
    return _fit(data, None, items, labels, method, penalty, tol, max_iter)


def fit_comparisons(
    winners,
    losers,
    *,
    weights=None,
    ties=None,
    covariates=None,
    method="newton",
    penalty=0.0,
    tol=1e-10,
    max_iter=10_000,
):
    """Estimate log-strengths from a list of comparisons, as `fit` does from a table.

    Memory grows with the number of comparisons and of items, never with n^2 alone.

    Parameters
    ----------
    winners, losers : sequence of labels, length m
        The winner and the loser of each comparison. A label is anything that is hashable, all
        of one type; a number is a label too, not an index.
    weights : array_like, shape (m,), optional
        How often each comparison occurred (>= 0), by default once. If weights are not counts,
        the estimates are still those of the weighted likelihood; for their errors use
        ``kind="rows"``.
    ties : array_like of bool, shape (m,), optional
        Where True, the comparison was a tie, and either item may stand first. It is half a win
        for each in the estimate, and a tie in the errors.
    covariates : dict of str to array_like, shape (m,), optional
        For each covariate its value for the winner minus that for the loser.
    method, penalty, tol, max_iter
        As in `fit`.

    Returns
    -------
    BradleyTerryFit
        Its items are sorted, if they can be.

    Raises
    ------
    NoFiniteEstimateError
        As `fit`.
    ValueError
        If the arguments differ in length, a label is None, NaN or of another type than the
        others, a weight is out of range, or an item is compared with itself; or as in `fit`.

    References
    ----------
    As `fit`.

    Examples
    --------
    >>> result = fit_comparisons(["ann", "ann", "bob", "cid"], ["bob", "cid", "ann", "ann"])
    >>> result.items
    ('ann', 'bob', 'cid')
    >>> float(abs(result.log_strengths).max().round(9))
    0.0
    """
    check_labels(winners=winners, losers=losers, weights=weights, ties=ties)
    first, second, items = _comparisons.indices_of(winners, losers)
    shape = first.shape
    weights = as_shaped("weights", 1 if weights is None else as_counts("weights", weights), shape)
    refuse(not weights.any(), "weights", "all zero", "at least one comparison")
    tied = as_shaped("ties", False if ties is None else ties, shape)
    refuse((tied != 0) & (tied != 1), "ties", tied, "True or False")
    labels, values = _comparisons.covariates_of(covariates, shape)

    of_counts = partial(_comparisons.of_pairs, first, second, len(items), values)
    data = of_counts(weights * (1 - tied), weights * tied)
    squared = partial(of_counts, weights**2 * (1 - tied), weights**2 * tied)
    return _fit(data, squared, items, labels, method, penalty, tol, max_iter)


def fit_home_advantage(home_wins, away_wins, *, ties=None, names=None, **options):
    r"""Estimate log-strengths and the advantage of playing at home, by maximum likelihood.

    .. math:: P(i \text{ at home beats } j) = \sigma(s_i - s_j + \eta)

    It is `fit` with a covariate, 1 for a winner at home and -1 for one away.

    Parameters
    ----------
    home_wins, away_wins : array_like, shape (n, n)
        At the home of i, i beat j ``home_wins[i, j]`` times, and j beat i
        ``away_wins[i, j]`` times.
    ties : array_like, shape (n, n), optional
        At the home of i, i and j tied ``ties[i, j]`` times.
    names : sequence, optional
        As in `fit`.
    **options
        Of `fit`: `penalty`, `tol`, `max_iter`. The method is Newton's.

    Returns
    -------
    BradleyTerryFit
        With :math:`\eta` under ``coefficients["home"]``.

    Raises
    ------
    NoFiniteEstimateError
        As `fit`.
    ValueError
        As `fit`, for `home_wins` and for `away_wins`.

    References
    ----------
    Agresti (2002), *Categorical Data Analysis*, 2nd ed., chapter 10.

    Examples
    --------
    Two equal teams, each of which wins two of three games at home; eta is ln 2:

    >>> result = fit_home_advantage([[0, 2], [2, 0]], [[0, 1], [1, 0]])
    >>> round(result.coefficients["home"], 6), abs(result.log_strengths).round(6)
    (0.693147, array([0., 0.]))
    """
    home, away, both = as_tables(home_wins=home_wins, away_wins=away_wins, ties=ties)
    return fit(
        [home, away.T],
        ties=[both, np.zeros_like(home)],
        covariates={"home": [[[1]], [[-1]]]},
        names=names_of(names, home_wins, len(home)),
        **options,
    )


def _fit(data, squared, items, covariates, method, penalty, tol, max_iter):
    """Check the options, then climb."""
    methods = sorted(_climb.STEPS)
    refuse(method not in methods, "method", repr(method), f"one of {some(methods)}")
    penalty, tol = as_number("penalty", penalty, (">=", 0)), as_number("tol", tol, (">=", 0))
    max_iter = as_count("max_iter", max_iter)
    slow = (penalty or covariates) and method != "newton"
    refuse(slow, "method", repr(method), "'newton' with a penalty or covariates")
    check = []
    if not penalty:
        _climb.check_connected(data, items)
    if covariates and not penalty:
        _climb.check_covariates(data.rows, covariates)
        check = [partial(_climb.check_bounded, data.rows, covariates)]
    step, prior = _climb.STEPS[method], penalty / data.units**2
    theta, n_iterations, error = _climb.climb(data, step, prior, tol, max_iter, *check)
    if error > tol:
        advice = "a larger max_iter or tol" if method == "newton" else "method='newton'"
        warnings.warn(
            f"no convergence in max_iter={max_iter} iterations: the pushes on an item differ by "
            f"{error:.1e} of their sum, expected at most tol={tol}; try {advice}",
            RuntimeWarning,
            stacklevel=3,
        )
    s, coefficients = np.split(theta / data.units, [len(items)])
    s -= s.mean()  # exact with a penalty too: at its maximum the sum is zero
    named, known = dict(zip(covariates, coefficients.tolist())), (method, penalty, data, squared)
    return BradleyTerryFit(items, s, named, n_iterations, bool(error <= tol), *known)
