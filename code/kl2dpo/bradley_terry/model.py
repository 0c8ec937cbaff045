"""The model: its probability, its likelihood, and the two derivatives that a fit needs."""

import numpy as np

from kl2dpo._checks import as_array, check_labels, check_shapes, refuse
from kl2dpo._logistic import minus_log_sigmoid, sigmoid
from kl2dpo.bradley_terry._comparisons import as_tables

__all__ = ["information", "log_likelihood", "negative_log_likelihood", "score", "win_probability"]


def win_probability(log_strength_i, log_strength_j):
    r"""Probability that item i beats item j.

    .. math:: P(i \succ j) = \sigma(s_i - s_j) = \frac{\alpha_i}{\alpha_i + \alpha_j},
        \qquad \alpha = e^s

    Parameters
    ----------
    log_strength_i, log_strength_j : array_like
        Log-strengths, the natural logarithms of strengths; they broadcast.

    Returns
    -------
    float or ndarray
        The broadcast shape.

    Raises
    ------
    ValueError
        If a log-strength is not finite (beyond 1e100 counts as not finite), or the shapes do
        not broadcast.

    References
    ----------
    Bradley and Terry (1952), *Rank Analysis of Incomplete Block Designs*.

    Examples
    --------
    Strength 2 against 1 and against 3:

    >>> win_probability(np.log(2), np.log([1, 3]))
    array([0.66666667, 0.4       ])
    """
    s_i = _as_log_strengths("log_strength_i", log_strength_i)
    s_j = _as_log_strengths("log_strength_j", log_strength_j)
    check_shapes(log_strength_i=s_i, log_strength_j=s_j)
    return sigmoid(s_i - s_j)


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
    log_p = -minus_log_sigmoid(s[..., :, None] - s[..., None, :])
    return np.sum(wins * log_p, axis=(-2, -1))


def negative_log_likelihood(log_strengths, wins):
    r"""Mean negative log-likelihood of a comparison: the loss of a reward model.

    .. math:: -\mathrm{E}_{(i, j) \sim D} \ln \sigma(s_i - s_j)

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

    >>> float(round(negative_log_likelihood([0, 0, 0], [[0, 8, 3], [4, 0, 0], [5, 0, 0]]), 6))
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
    Chapter 7 of this course, *Finding the strengths*, derives it in SymPy.

    Examples
    --------
    With equal strengths, A should have won 10 of its 20 games. It won 11:

    >>> score([0, 0, 0], [[0, 8, 3], [4, 0, 0], [5, 0, 0]])
    array([ 1., -2.,  1.])
    """
    s, wins = _as_log_strengths_and_wins(log_strengths, wins, ndim=1)
    played = wins + wins.T
    return (wins - played * sigmoid(np.subtract.outer(s, s))).sum(axis=1)


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
    Chapter 7 of this course, *Finding the strengths*, derives it in SymPy.

    Examples
    --------
    >>> information([0, 0, 0], [[0, 8, 3], [4, 0, 0], [5, 0, 0]])
    array([[ 5., -3., -2.],
           [-3.,  3.,  0.],
           [-2.,  0.,  2.]])
    """
    s, wins = _as_log_strengths_and_wins(log_strengths, wins, ndim=1)
    p = sigmoid(np.subtract.outer(s, s))
    weights = (wins + wins.T) * p * p.T
    return np.diag(weights.sum(axis=1)) - weights


def _as_log_strengths(name, value):
    # Within these bounds no difference overflows.
    return as_array(name, value, (">", -1e100), ("<", 1e100))


def _as_log_strengths_and_wins(log_strengths, wins, ndim=None):
    """Return both, with one log-strength for each item."""
    check_labels(log_strengths=log_strengths, wins=wins)
    s, (wins, _) = _as_log_strengths("log_strengths", log_strengths), as_tables(wins=wins)
    good = s.shape[-1:] == wins.shape[-1:] and ndim in (None, s.ndim)
    expected = f"({len(wins)},)" if ndim else f"(..., {len(wins)})"
    expected += f", as wins has {len(wins)} items"
    refuse(not good, "log_strengths", f"shape {s.shape}", expected, "has")
    return s, wins
