"""The objective of RLHF, mean reward minus a price for divergence, and its exact solution.

Every function takes distributions over responses along the last axis; the other axes
are prompts, and they broadcast. Rewards have any unit; `beta` is in that unit per nat.
"""

import numpy as np

from kl2dpo._checks import as_array, as_probabilities, check_shapes, outcomes_last, refuse
from kl2dpo._logistic import log_softmax, logsumexp
from kl2dpo.kl import kl_divergence

__all__ = ["implicit_reward", "log_partition", "optimal_policy", "optimal_value"]
__all__ += ["regularized_objective"]


def regularized_objective(policy, reference, reward, beta):
    r"""Mean reward minus beta times the divergence from the reference.

    .. math:: J(\pi) = \sum_y \pi(y)\, r(y) - \beta\, \mathrm{KL}(\pi \| \pi_{\mathrm{ref}})

    Parameters
    ----------
    policy, reference : array_like, shape (..., n)
        Probabilities of the n responses; they sum to one along the last axis.
    reward : array_like, shape (..., n)
        Finite rewards of the responses.
    beta : array_like, shape (...)
        Tightness of the leash (> 0): the price of one nat.

    Returns
    -------
    float or ndarray, shape (...)
        In units of reward; -inf where the policy gives a response that the reference
        excludes.

    Raises
    ------
    ValueError
        If `policy` or `reference` is not a distribution, a reward is not finite, `beta` is
        not positive, or the shapes do not fit.

    References
    ----------
    Rafailov et al. (2023), *Direct Preference Optimization*, equation 3.

    Examples
    --------
    >>> float(regularized_objective([0.5, 0.5], [0.5, 0.5], [0, 1], 0.1))
    0.5
    """
    p, q, r, beta = _as_problem(beta, policy=policy, reference=reference, reward=reward)
    return np.sum(p * r, axis=-1) - beta * kl_divergence(p, q)


def log_partition(reference, reward, beta):
    r"""Logarithm of the partition function.

    .. math:: \ln Z = \ln \sum_y \pi_{\mathrm{ref}}(y)\, e^{r(y) / \beta}

    Parameters
    ----------
    reference, reward, beta
        As in `regularized_objective`.

    Returns
    -------
    float or ndarray, shape (...)

    Raises
    ------
    ValueError
        As `regularized_objective`; and if a reward divided by beta is not finite.

    References
    ----------
    Rafailov et al. (2023), *Direct Preference Optimization*, equation 4.

    Examples
    --------
    The sum never overflows:

    >>> float(log_partition([0.5, 0.5], [10_000, 10_000], 1))
    10000.0
    """
    return logsumexp(_tilt(reference, reward, beta))[..., 0]


def optimal_policy(reference, reward, beta):
    r"""The policy that maximises the regularised objective; and the optimum of DPO.

    .. math:: \pi^*(y) = \frac{1}{Z}\, \pi_{\mathrm{ref}}(y)\, e^{r(y) / \beta}

    The policy that minimises the loss of DPO, if nothing restricts it, is the same one for
    another reward: the maximum-likelihood log-strengths of the responses in the comparisons,
    from `kl2dpo.bradley_terry.fit`.

    Parameters
    ----------
    reference, reward, beta
        As in `regularized_objective`.

    Returns
    -------
    ndarray, shape (..., n)
        Exactly 0 where the reference is 0.

    Raises
    ------
    ValueError
        As `log_partition`.

    References
    ----------
    Rafailov et al. (2023), *Direct Preference Optimization*, equation 4; chapter 10 of
    this course, *The RLHF objective and its exact solution*, and chapter 11 of this course,
    *The DPO loss*, prove the two statements.

    Examples
    --------
    The thread of the course, in 19ths:

    >>> log_strengths = np.log([2, 1, 10 / 3])
    >>> (19 * optimal_policy(np.full(3, 1 / 3), log_strengths, 1)).round(6)
    array([ 6.,  3., 10.])

    What DPO makes of another reference, with beta 1/2:

    >>> optimal_policy([0.5, 0.3, 0.2], log_strengths, 0.5).round(5)
    array([0.44226, 0.06634, 0.4914 ])
    """
    return np.exp(log_softmax(_tilt(reference, reward, beta)))


def optimal_value(reference, reward, beta):
    r"""The largest value of the regularised objective.

    .. math:: \max_\pi J(\pi) = \beta \ln Z

    Parameters
    ----------
    reference, reward, beta
        As in `regularized_objective`.

    Returns
    -------
    float or ndarray, shape (...)
        In units of reward.

    Raises
    ------
    ValueError
        As `log_partition`.

    References
    ----------
    Rafailov et al. (2023), *Direct Preference Optimization*, appendix A.1; chapter 10 of
    this course, *The RLHF objective and its exact solution*.

    Examples
    --------
    >>> round(float(optimal_value([0.5, 0.5], [0, 1], 1)), 6)
    0.620115
    """
    reference, reward, beta = _as_problem(beta, reference=reference, reward=reward)
    value = beta * log_partition(reference, reward, beta)
    mean = np.sum(reference * reward, axis=-1)
    with np.errstate(over="ignore"):
        excess = (reward - mean[..., None]) / beta[..., None]
    # Under a tight leash ln Z is nearly mean / beta: what it is more must not be rounded.
    more = np.log1p(np.sum(reference * np.expm1(np.clip(excess, -1, 1)), axis=-1))
    return np.where(np.abs(excess).max(axis=-1) < 1, mean + beta * more, value)[()]


def implicit_reward(policy, reference, beta):
    r"""The reward for which a policy is optimal, up to a constant for each prompt.

    .. math:: \hat r(y) = \beta \ln \frac{\pi(y)}{\pi_{\mathrm{ref}}(y)} = r(y) - \beta \ln Z

    Parameters
    ----------
    policy, reference : array_like, shape (..., n)
        Probabilities of the n responses. Those of the reference are above 0: the reward of a
        response that it never gives is not determined.
    beta : array_like, shape (...)
        Tightness of the leash (> 0).

    Returns
    -------
    ndarray, shape (..., n)
        In units of reward; -inf where the policy is 0.

    Raises
    ------
    ValueError
        If `policy` or `reference` is not a distribution, the reference has a zero, `beta` is
        not positive, or the shapes do not fit.

    References
    ----------
    Rafailov et al. (2023), *Direct Preference Optimization*, equation 5.

    Examples
    --------
    >>> implicit_reward([0.2, 0.8], [0.8, 0.2], 0.5).round(6)
    array([-0.693147,  0.693147])
    """
    policy, reference, beta = _as_problem(beta, policy=policy, reference=reference)
    refuse(reference == 0, "reference", reference, "a probability > 0")
    with np.errstate(divide="ignore"):
        return beta[..., None] * (np.log(policy) - np.log(reference))


def _as_given(name, value, axis):
    """Rewards are any numbers, policies are distributions."""
    rewards = name == "reward"
    return np.atleast_1d(as_array(name, value)) if rewards else as_probabilities(name, value, axis)


def _as_problem(beta, **given):
    """Return all arguments as arrays that fit each other."""
    arrays = dict(zip(given, outcomes_last(_as_given, -1, **given)))
    beta = as_array("beta", beta, (">", 0))
    check_shapes(**{name: array[..., 0] for name, array in arrays.items()}, beta=beta)
    return *arrays.values(), beta


def _tilt(reference, reward, beta):
    """The logarithms of the weights ref * exp(r / beta)."""
    reference, reward, beta = _as_problem(beta, reference=reference, reward=reward)
    with np.errstate(over="ignore", divide="ignore"):
        return np.log(reference) + as_array("(reward / beta)", reward / beta[..., None])
