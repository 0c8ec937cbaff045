"""Entropy, cross-entropy and Kullback-Leibler divergence, exact and estimated.

Every result is in nats unless `base` says otherwise: ``base=2`` gives bits. (A base
below 1 has a negative logarithm, so it turns every sign.)

Probabilities must sum to one within 1e-8. Those of a softmax in single precision often
do not: normalise them in double precision, or use `kl_from_logits`.
"""

from typing import NamedTuple

import numpy as np

from kl2dpo._checks import (
    as_finite,
    as_positive,
    as_probabilities,
    check_axis,
    check_shapes,
    log_of_base,
    outcomes_last,
)
from kl2dpo._logistic import log_softmax

__all__ = [
    "KLEstimates",
    "cross_entropy",
    "entropy",
    "kl_divergence",
    "kl_estimators",
    "kl_from_logits",
    "kl_normal",
]


def _log(p):
    """ln p, with ln 0 = -inf and no warning: a zero probability is legitimate."""
    with np.errstate(divide="ignore"):
        return np.log(p)


def _expectation(p, values):
    """Sum of p * values over the last axis; an outcome with p = 0 adds 0, whatever its value."""
    with np.errstate(invalid="ignore"):
        terms = np.where(p > 0, p * values, 0.0)
    # Adding 0.0 turns a sum of -0.0 into 0.0, which prints without a minus sign.
    return terms.sum(axis=-1) + 0.0


def _divergence(p, log_p, log_q):
    """Sum of p * (log_p - log_q) over the last axis, in nats."""
    with np.errstate(invalid="ignore"):
        log_ratio = log_p - log_q
    # Gibbs: the sum is >= 0. Rounding may leave -1e-17 where P and Q agree.
    return np.maximum(_expectation(p, log_ratio), 0.0)


def entropy(p, *, base=np.e, axis=-1):
    r"""Shannon entropy of a distribution.

    .. math:: H(P) = -\sum_x P(x) \ln P(x), \qquad 0 \ln 0 = 0

    Parameters
    ----------
    p : array_like, shape (..., n, ...)
        Probabilities; they sum to one along `axis`.
    base : float, default e
        Base of the logarithm: e for nats, 2 for bits.
    axis : int, default -1
        The axis of the outcomes.

    Returns
    -------
    float or ndarray
        The shape of `p` without `axis`.

    Raises
    ------
    ValueError
        If `p` is empty, has a negative, NaN or infinite entry, or does not sum
        to one within 1e-8; if `axis` or `base` is out of range.

    References
    ----------
    Shannon (1948), *A Mathematical Theory of Communication*, section 6.

    Examples
    --------
    A fair coin carries one bit:

    >>> float(entropy([0.5, 0.5], base=2))
    1.0
    """
    p = np.moveaxis(as_probabilities("p", p, axis), axis, -1)
    return _expectation(p, -_log(p)) / log_of_base(base)


def cross_entropy(p, q, *, base=np.e, axis=-1):
    r"""Cross-entropy: the mean code length when P is coded with the ideal code of Q.

    .. math:: H(P, Q) = -\sum_x P(x) \ln Q(x) = H(P) + \mathrm{KL}(P \| Q)

    Parameters
    ----------
    p, q : array_like, shape (..., n, ...)
        Probabilities of the same n outcomes along `axis`; the other axes broadcast.
    base : float, default e
        Base of the logarithm: e for nats, 2 for bits.
    axis : int, default -1
        The axis of the outcomes.

    Returns
    -------
    float or ndarray
        The broadcast shape without `axis`; inf where P > 0 = Q for some outcome.

    Raises
    ------
    ValueError
        As `entropy`, for `p` and for `q`; and if their shapes do not fit.

    References
    ----------
    Cover and Thomas (2006), *Elements of Information Theory*, 2nd ed.,
    theorem 5.4.3 (the wrong code).

    Examples
    --------
    >>> round(float(cross_entropy([0.2, 0.8], [0.8, 0.2], base=2)), 6)
    1.921928
    """
    p, q = as_probabilities("p", p, axis), as_probabilities("q", q, axis)
    p, q = outcomes_last(axis, p=p, q=q)
    return _expectation(p, -_log(q)) / log_of_base(base)


def kl_divergence(p, q, *, base=np.e, axis=-1):
    r"""Kullback-Leibler divergence of P from Q.

    .. math:: \mathrm{KL}(P \| Q) = \sum_x P(x) \ln \frac{P(x)}{Q(x)}

    An outcome with P = 0 adds nothing; one with P > 0 = Q makes the divergence
    infinite. It is never negative, and zero only if P = Q, up to the rounding of
    the sum (about 1e-16).

    Parameters
    ----------
    p, q : array_like, shape (..., n, ...)
        Probabilities of the same n outcomes along `axis`; the other axes broadcast.
    base : float, default e
        Base of the logarithm: e for nats, 2 for bits.
    axis : int, default -1
        The axis of the outcomes.

    Returns
    -------
    float or ndarray
        The broadcast shape without `axis`.

    Raises
    ------
    ValueError
        As `entropy`, for `p` and for `q`; and if their shapes do not fit.

    References
    ----------
    Kullback and Leibler (1951), *On Information and Sufficiency*.

    Examples
    --------
    (3/5) ln 4 nats, which is 1.2 bits:

    >>> round(float(kl_divergence([0.2, 0.8], [0.8, 0.2])), 6)
    0.831777
    >>> round(float(kl_divergence([0.2, 0.8], [0.8, 0.2], base=2)), 6)
    1.2

    One distribution against several at once:

    >>> kl_divergence([0.2, 0.8], [[0.2, 0.8], [0.5, 0.5]]).round(6)
    array([0.      , 0.192745])
    """
    p, q = as_probabilities("p", p, axis), as_probabilities("q", q, axis)
    p, q = outcomes_last(axis, p=p, q=q)
    return _divergence(p, _log(p), _log(q)) / log_of_base(base)


def kl_from_logits(p_logits, q_logits, *, base=np.e, axis=-1):
    r"""KL divergence of two softmax distributions, from their logits.

    .. math:: \mathrm{KL}(P \| Q), \qquad P = \mathrm{softmax}(a), \quad Q = \mathrm{softmax}(b)

    The probabilities of Q are never formed, so one that is too small for a float
    still counts with its true logarithm.

    Parameters
    ----------
    p_logits, q_logits : array_like, shape (..., n, ...)
        Finite logits of the same n outcomes along `axis`; the other axes broadcast.
    base : float, default e
        Base of the logarithm: e for nats, 2 for bits.
    axis : int, default -1
        The axis of the outcomes.

    Returns
    -------
    float or ndarray
        The broadcast shape without `axis`.

    Raises
    ------
    ValueError
        If a logit is NaN or infinite, an argument is empty, the shapes do not fit,
        or `axis` or `base` is out of range.

    References
    ----------
    Blanchard, Higham and Higham (2021), *Accurately computing the
    log-sum-exp and softmax functions*, for the shift.

    Examples
    --------
    The second outcome has probability exp(-2000) under Q, which is 0 as a float:

    >>> float(kl_from_logits([0, 1000], [2000, 0]))
    2000.0
    """
    a, b = as_finite("p_logits", p_logits), as_finite("q_logits", q_logits)
    check_axis("p_logits", a, axis)
    check_axis("q_logits", b, axis)
    a, b = outcomes_last(axis, p_logits=a, q_logits=b)
    log_p, log_q = log_softmax(a), log_softmax(b)
    return _divergence(np.exp(log_p), log_p, log_q) / log_of_base(base)


def _expm1_minus(x):
    """exp(x) - 1 - x without cancellation: near 0 by its Taylor series x^2/2 + x^3/6 + ..."""
    series = x**2 / 2 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5 * (1 + x / 6 * (1 + x / 7)))))
    return np.where(np.abs(x) < 1e-2, series, np.expm1(x) - x)[()]


def kl_normal(mean_p, std_p, mean_q, std_q, *, base=np.e):
    r"""KL divergence of two univariate normal distributions.

    .. math::

        \mathrm{KL}(N(\mu_P, \sigma_P^2) \| N(\mu_Q, \sigma_Q^2))
        = \ln \frac{\sigma_Q}{\sigma_P}
        + \frac{\sigma_P^2 + (\mu_P - \mu_Q)^2}{2 \sigma_Q^2} - \frac12

    Parameters
    ----------
    mean_p, std_p, mean_q, std_q : array_like
        Means and standard deviations (> 0); they broadcast.
    base : float, default e
        Base of the logarithm: e for nats, 2 for bits.

    Returns
    -------
    float or ndarray
        The broadcast shape.

    Raises
    ------
    ValueError
        If an argument is NaN, infinite or empty, a standard deviation is not
        positive, the shapes do not broadcast, or `base` is out of range.

    References
    ----------
    Chapter 2 of this course derives it by symbolic integration.

    Examples
    --------
    >>> float(kl_normal(0, 1, 1, 1))
    0.5
    """
    mean_p, mean_q = as_finite("mean_p", mean_p), as_finite("mean_q", mean_q)
    std_p, std_q = as_positive("std_p", std_p), as_positive("std_q", std_q)
    check_shapes(mean_p=mean_p, std_p=std_p, mean_q=mean_q, std_q=std_q)
    # With l = ln(std_p^2 / std_q^2), the terms without means are (exp(l) - 1 - l) / 2.
    log_ratio = 2 * (np.log(std_p) - np.log(std_q))
    with np.errstate(over="ignore"):
        shift = (mean_p - mean_q) / std_q
        return (_expm1_minus(log_ratio) + shift**2) / 2 / log_of_base(base)


class KLEstimates(NamedTuple):
    """Per-sample estimates of KL(P || Q), in nats; each has the shape of the samples."""

    k1: np.ndarray
    k2: np.ndarray
    k3: np.ndarray


def kl_estimators(log_p, log_q):
    r"""Three estimates of KL(P || Q) from each sample x of P.

    With the ratio :math:`\rho = Q(x) / P(x)`:

    .. math:: k_1 = -\ln \rho, \qquad k_2 = \tfrac12 (\ln \rho)^2, \qquad k_3 = \rho - 1 - \ln \rho

    The means of k1 and k3 are KL(P || Q) (k3's if P > 0 wherever Q > 0); k2 is biased.
    k2 and k3 are never negative.

    Parameters
    ----------
    log_p, log_q : array_like
        Natural logarithms of the two densities (or probabilities) at samples of P;
        they broadcast.

    Returns
    -------
    KLEstimates
        Named tuple ``(k1, k2, k3)``, each of the broadcast shape. Average over the
        samples for an estimate of the divergence.

    Raises
    ------
    ValueError
        If an argument is NaN, infinite or empty, or the shapes do not broadcast.

    References
    ----------
    Schulman (2020), *Approximating KL Divergence*.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([-1.0, 0.0, 2.0])            # samples of P = N(0, 1)
    >>> estimates = kl_estimators(-x**2 / 2, -(x - 1)**2 / 2)  # Q = N(1, 1)
    >>> estimates.k1
    array([ 1.5,  0.5, -1.5])
    >>> estimates.k3.round(3)
    array([0.723, 0.107, 1.982])
    """
    log_p, log_q = as_finite("log_p", log_p), as_finite("log_q", log_q)
    check_shapes(log_p=log_p, log_q=log_q)
    with np.errstate(over="ignore"):
        log_ratio = as_finite("log_q - log_p", log_q - log_p)
        return KLEstimates(log_p - log_q, log_ratio**2 / 2, _expm1_minus(log_ratio))
