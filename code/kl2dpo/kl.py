"""Entropy, cross-entropy and Kullback-Leibler divergence, exact and estimated.

Every result is in nats unless `base` says otherwise: ``base=2`` gives bits. (A base
below 1 has a negative logarithm, so it turns every sign.)

Probabilities must sum to one within 1e-8, and an entropy is as exact as that sum. Those of
a softmax in single precision often do not: normalise them in double precision, or use
`kl_from_logits`. Outcomes are paired by their positions, so tables of pandas must have the
same labels in the same order: ``p, q = p.align(q, fill_value=0)``.
"""

from typing import NamedTuple

import numpy as np

from kl2dpo import _checks as check
from kl2dpo._logistic import log_softmax, logsumexp

__all__ = ["KLEstimates", "cross_entropy", "entropy", "kl_divergence"]
__all__ += ["kl_estimators", "kl_from_logits", "kl_normal"]


@np.errstate(all="ignore")
def _cross_entropy(p, q):
    """Sum of -p ln q over the last axis; an outcome with p = 0 adds 0, even where q = 0."""
    # Adding 0.0 turns a sum of -0.0 into 0.0, which prints without a minus sign.
    return np.where(p > 0, -p * np.log(q), 0.0).sum(axis=-1) + 0.0


@np.errstate(all="ignore")
def _log_ratio(p, q):
    """ln(p / q); where they are close, p - q is exact and log1p keeps its digits."""
    return np.where(np.abs(p - q) < q / 2, np.log1p((p - q) / q), np.log(p) - np.log(q))


@np.errstate(all="ignore")
def _divergence(p, q, log_ratio):
    """Sum of p ln(p / q) + q - p over the last axis: q - p adds up to 0, and no term is negative.

    A term is p f(q / p) with f(x) = x - 1 - ln x, so a sum near 0 keeps its digits.
    """
    return np.select(
        [log_ratio == np.inf, p == 0, np.abs(log_ratio) < 1e-2],
        [np.inf, q, p * _expm1_minus(-log_ratio)],
        default=p * log_ratio + q - p,
    ).sum(axis=-1)


def _nats(base):
    """The unit of information whose logarithms have that base, in nats."""
    base = check.as_number("base", base, (">", 0))
    check.refuse(base == 1, "base", 1, "another number: the logarithm of 1 is 0")
    return np.log(base)


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
    (p,) = check.outcomes_last(check.as_probabilities, axis, p=p)
    return _cross_entropy(p, p) / _nats(base)


def cross_entropy(p, q, *, base=np.e, axis=-1):
    r"""Cross-entropy: the mean code length when P is coded with the ideal code of Q.

    .. math:: H(P, Q) = -\sum_x P(x) \ln Q(x) = H(P) + \mathrm{KL}(P \| Q)

    Parameters
    ----------
    p, q : array_like, shape (..., n, ...)
        Probabilities of the same n outcomes along `axis`; the other axes broadcast.
    base, axis
        As for `entropy`.

    Returns
    -------
    float or ndarray
        The broadcast shape without `axis`; inf where P > 0 = Q for some outcome.

    Raises
    ------
    ValueError
        As `entropy`, for `p` and for `q`; if their shapes do not fit, or their labels differ.

    References
    ----------
    Cover and Thomas (2006), *Elements of Information Theory*, 2nd ed.,
    theorem 5.4.3 (the wrong code).

    Examples
    --------
    >>> round(float(cross_entropy([0.2, 0.8], [0.8, 0.2], base=2)), 6)
    1.921928
    """
    p, q = check.outcomes_last(check.as_probabilities, axis, p=p, q=q)
    return _cross_entropy(p, q) / _nats(base)


def kl_divergence(p, q, *, base=np.e, axis=-1):
    r"""Kullback-Leibler divergence of P from Q.

    .. math:: \mathrm{KL}(P \| Q) = \sum_x P(x) \ln \frac{P(x)}{Q(x)}

    An outcome with P = 0 adds nothing; one with P > 0 = Q makes the divergence
    infinite. It is never negative, and zero only if P = Q: each term is computed with Q - P
    added, which sums to zero and leaves no term negative. Down to 1e-17 it is exact to 9
    digits; but sums that are off by 1e-8 add an error of 1e-8 of the value, and of 2e-16.

    Parameters
    ----------
    p, q : array_like, shape (..., n, ...)
        Probabilities of the same n outcomes along `axis`; the other axes broadcast.
    base, axis
        As for `entropy`.

    Returns
    -------
    float or ndarray
        The broadcast shape without `axis`.

    Raises
    ------
    ValueError
        As `entropy`, for `p` and for `q`; if their shapes do not fit, or their labels differ.

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
    p, q = check.outcomes_last(check.as_probabilities, axis, p=p, q=q)
    return _divergence(p, q, _log_ratio(p, q)) / _nats(base)


def kl_from_logits(p_logits, q_logits, *, base=np.e, axis=-1):
    r"""KL divergence of two softmax distributions, from their logits.

    .. math:: \mathrm{KL}(P \| Q), \qquad P = \mathrm{softmax}(a), \quad Q = \mathrm{softmax}(b)

    A probability of Q that is too small for a float counts with its true logarithm. A logit
    of -inf, as of a masked token, is a probability of 0, with the rules of `kl_divergence`.

    Parameters
    ----------
    p_logits, q_logits : array_like, shape (..., n, ...)
        Logits of the same n outcomes along `axis`, finite or -inf; the other axes broadcast.
    base, axis
        As for `entropy`.

    Returns
    -------
    float or ndarray
        The broadcast shape without `axis`.

    Raises
    ------
    ValueError
        If a logit is NaN or inf, all of a distribution are -inf, an argument is empty, the
        shapes do not fit, the labels differ, or `axis` or `base` is out of range.

    References
    ----------
    Blanchard, Higham and Higham (2021), *Accurately computing the
    log-sum-exp and softmax functions*, for the shift.

    Examples
    --------
    The second outcome has probability exp(-2000) under Q, which is 0 as a float:

    >>> float(kl_from_logits([0, 1000], [2000, 0]))
    2000.0

    To mask one of two equal outcomes moves a distribution by one bit; the way back is infinite:

    >>> mask = [0, float("-inf")]
    >>> round(float(kl_from_logits(mask, [0, 0], base=2)), 6)
    1.0
    >>> float(kl_from_logits([0, 0], mask))
    inf
    """
    a, b = check.outcomes_last(check.as_logits, axis, p_logits=p_logits, q_logits=q_logits)
    log_p, log_q = log_softmax(a), log_softmax(b)
    with np.errstate(all="ignore"):
        # Not ln p - ln q: where a and b are close, a - b is exact.
        top_a, top_b = a.max(axis=-1, keepdims=True), b.max(axis=-1, keepdims=True)
        log_ratio = (a - b) - (top_a - top_b) - (logsumexp(a - top_a) - logsumexp(b - top_b))
        log_ratio = np.where(np.isfinite(top_a - top_b), log_ratio, log_p - log_q)
    return _divergence(np.exp(log_p), np.exp(log_q), log_ratio) / _nats(base)


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
    base
        As for `entropy`.

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
    Chapter 2 of this course, *Properties of KL divergence*: by symbolic integration.

    Examples
    --------
    >>> float(kl_normal(0, 1, 1, 1))
    0.5
    """
    mean_p, mean_q = check.as_array("mean_p", mean_p), check.as_array("mean_q", mean_q)
    std_p = check.as_array("std_p", std_p, (">", 0))
    std_q = check.as_array("std_q", std_q, (">", 0))
    check.check_shapes(mean_p=mean_p, std_p=std_p, mean_q=mean_q, std_q=std_q)
    # With l = ln(std_p^2 / std_q^2), the terms without means are (exp(l) - 1 - l) / 2.
    log_ratio = 2 * _log_ratio(std_p, std_q)
    with np.errstate(over="ignore"):
        shift = (mean_p - mean_q) / std_q
        return (_expm1_minus(log_ratio) + shift**2) / 2 / _nats(base)


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
    k2 and k3 are never negative. All of this is about values, not about gradients, and
    only if the samples come from exactly the P of `log_p`: not at another temperature, not
    from its likeliest tokens alone. For responses, give the log-probabilities of tokens,
    and add up the estimates of a response: of whole responses, k3 has an immense spread.

    Parameters
    ----------
    log_p, log_q : array_like
        Natural logarithms of the two densities (or probabilities) at samples of P; they
        broadcast. `log_q` may be -inf, where Q = 0: then all three estimates are inf.

    Returns
    -------
    KLEstimates
        Named tuple ``(k1, k2, k3)``, each of the broadcast shape. Average over the
        samples for an estimate of the divergence. k3 is inf where ln rho > 709.

    Raises
    ------
    ValueError
        If `log_p` is not finite, `log_q` is NaN or inf, an argument is empty, the shapes do
        not broadcast, or the labels differ.

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
    check.check_labels(log_p=log_p, log_q=log_q)
    log_p, log_q = check.as_array("log_p", log_p), check.as_array("log_q", log_q, masked=True)
    check.check_shapes(log_p=log_p, log_q=log_q)
    with np.errstate(over="ignore"):
        log_ratio = check.as_array("log_q - log_p", log_q - log_p, masked=True)
        return KLEstimates(log_p - log_q, log_ratio**2 / 2, _expm1_minus(log_ratio))
