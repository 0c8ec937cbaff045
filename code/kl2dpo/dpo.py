"""Losses on preference pairs: DPO and its relatives, each with its gradient.

The arguments are log-probabilities of whole responses: sums over their tokens, natural
logarithms. ``policy_chosen[k]`` belongs to the chosen response of pair k under the policy,
``ref_rejected[k]`` to the rejected one under the reference, and so on. All arrays broadcast.
Every loss is returned pair by pair; training takes the mean.

A gradient function returns the derivatives of the loss of each pair with respect to
`policy_chosen` and to `policy_rejected`.
"""

from typing import NamedTuple

import numpy as np

from kl2dpo._checks import (
    as_finite,
    as_number,
    as_positive,
    as_positive_number,
    check_shapes,
    refuse,
)
from kl2dpo._logistic import minus_log_sigmoid, sigmoid
from kl2dpo.rlhf import tilted

__all__ = [
    "ImplicitRewards",
    "PairGradient",
    "dpo_gradient",
    "dpo_loss",
    "hinge_gradient",
    "hinge_loss",
    "implicit_rewards",
    "ipo_gradient",
    "ipo_loss",
    "kto_gradient",
    "kto_loss",
    "log_ratio_margin",
    "orpo_gradient",
    "orpo_loss",
    "robust_dpo_gradient",
    "robust_dpo_loss",
    "simpo_gradient",
    "simpo_loss",
    "tabular_optimum",
]


class PairGradient(NamedTuple):
    """Derivatives of a pair's loss by the log-probabilities of its two responses."""

    chosen: np.ndarray
    rejected: np.ndarray


class ImplicitRewards(NamedTuple):
    """Implicit rewards of the two responses of each pair."""

    chosen: np.ndarray
    rejected: np.ndarray


def log_ratio_margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected):
    r"""Difference of the log-ratios of the chosen and the rejected response.

    .. math:: h = \ln \frac{\pi(y_w)}{\pi_{\mathrm{ref}}(y_w)} - \ln \frac{\pi(y_l)}{\pi_{\mathrm{ref}}(y_l)}

    Parameters
    ----------
    policy_chosen, policy_rejected, ref_chosen, ref_rejected : array_like
        Log-probabilities of responses (<= 0).

    Returns
    -------
    float or ndarray
        The broadcast shape, in nats.

    Raises
    ------
    ValueError
        If a log-probability is NaN, infinite or positive, or the shapes do not broadcast.

    References
    ----------
    Rafailov et al. (2023), *Direct Preference Optimization*, equation 7.

    Examples
    --------
    >>> float(log_ratio_margin(-1.0, -3.0, -2.0, -2.0))
    2.0
    """
    chosen, rejected = _log_ratios(policy_chosen, policy_rejected, ref_chosen, ref_rejected)
    return chosen - rejected


def implicit_rewards(policy_chosen, policy_rejected, ref_chosen, ref_rejected, *, beta=0.1):
    r"""Rewards that the policy implies, up to a constant for each prompt.

    .. math:: \hat r(y) = \beta \ln \frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}

    Parameters
    ----------
    policy_chosen, policy_rejected, ref_chosen, ref_rejected
        As in `log_ratio_margin`.
    beta : float, default 0.1
        Tightness of the leash (> 0).

    Returns
    -------
    ImplicitRewards
        Named tuple ``(chosen, rejected)``.

    Raises
    ------
    ValueError
        As `log_ratio_margin`; and if `beta` is not one positive number.

    References
    ----------
    Rafailov et al. (2023), *Direct Preference Optimization*, section 4.

    Examples
    --------
    >>> rewards = implicit_rewards(-1.0, -3.0, -2.0, -2.0, beta=0.5)
    >>> float(rewards.chosen), float(rewards.rejected)
    (0.5, -0.5)
    """
    beta = as_positive_number("beta", beta)
    chosen, rejected = _log_ratios(policy_chosen, policy_rejected, ref_chosen, ref_rejected)
    return ImplicitRewards(beta * chosen, beta * rejected)


def dpo_loss(
    policy_chosen, policy_rejected, ref_chosen, ref_rejected, *, beta=0.1, label_smoothing=0.0
):
    r"""Loss of DPO; with label smoothing, that of conservative DPO (cDPO).

    .. math:: -(1 - \varepsilon) \ln \sigma(\beta h) - \varepsilon \ln \sigma(-\beta h)

    with the margin h of `log_ratio_margin` and the label smoothing :math:`\varepsilon`.

    Parameters
    ----------
    policy_chosen, policy_rejected, ref_chosen, ref_rejected
        As in `log_ratio_margin`.
    beta : float, default 0.1
        Tightness of the leash (> 0): a larger one keeps the policy closer to the reference.
    label_smoothing : float, default 0
        Assumed share of wrong labels, from 0 to below 1/2.

    Returns
    -------
    float or ndarray
        The loss of each pair, in nats.

    Raises
    ------
    ValueError
        As `log_ratio_margin`; and if `beta` or `label_smoothing` is out of range.

    References
    ----------
    Rafailov et al. (2023), *Direct Preference Optimization*, equation 7. Mitchell
    (2023), *A note on DPO with noisy preferences and relationship to IPO*.

    Examples
    --------
    Before training, policy and reference agree, and every pair costs ln 2:

    >>> float(dpo_loss(-1.0, -3.0, -1.0, -3.0).round(6))
    0.693147
    """
    z, beta = _scaled_margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta)
    eps = _as_label_smoothing(label_smoothing)
    return (1 - eps) * minus_log_sigmoid(z) + eps * minus_log_sigmoid(-z)


def dpo_gradient(
    policy_chosen, policy_rejected, ref_chosen, ref_rejected, *, beta=0.1, label_smoothing=0.0
):
    r"""Gradient of `dpo_loss`.

    .. math::

        \frac{\partial \mathcal{L}}{\partial \ln \pi(y_w)}
        = -\beta \bigl[ (1 - \varepsilon)\, \sigma(-\beta h) - \varepsilon\, \sigma(\beta h) \bigr]
        = -\frac{\partial \mathcal{L}}{\partial \ln \pi(y_l)}

    Parameters and errors are those of `dpo_loss`, where the source is named.

    Returns
    -------
    PairGradient

    Examples
    --------
    >>> gradient = dpo_gradient(-1.0, -3.0, -1.0, -3.0, beta=0.5)
    >>> float(gradient.chosen), float(gradient.rejected)
    (-0.25, 0.25)
    """
    z, beta = _scaled_margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta)
    eps = _as_label_smoothing(label_smoothing)
    return _through_margin(-beta * ((1 - eps) * sigmoid(-z) - eps * sigmoid(z)))


def robust_dpo_loss(
    policy_chosen, policy_rejected, ref_chosen, ref_rejected, *, beta=0.1, label_smoothing=0.0
):
    r"""Loss of robust DPO: unbiased if the share :math:`\varepsilon` of the labels is flipped.

    .. math:: \frac{-(1 - \varepsilon) \ln \sigma(\beta h) + \varepsilon \ln \sigma(-\beta h)}{1 - 2 \varepsilon}

    Its mean over random flips is the DPO loss of the true labels. For a label smoothing
    above 0 it is not bounded below.

    Parameters
    ----------
    policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta
        As in `dpo_loss`.
    label_smoothing : float, default 0
        Probability that a label is flipped, from 0 to below 1/2.

    Returns
    -------
    float or ndarray
        The loss of each pair, in nats.

    Raises
    ------
    ValueError
        As `dpo_loss`.

    References
    ----------
    Chowdhury, Kini and Natarajan (2024), *Provably Robust DPO: Aligning Language
    Models with Noisy Feedback*.

    Examples
    --------
    >>> float(robust_dpo_loss(-1.0, -3.0, -1.0, -3.0, label_smoothing=0.1).round(6))
    0.693147
    """
    z, beta = _scaled_margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta)
    eps = _as_label_smoothing(label_smoothing)
    return ((1 - eps) * minus_log_sigmoid(z) - eps * minus_log_sigmoid(-z)) / (1 - 2 * eps)


def robust_dpo_gradient(
    policy_chosen, policy_rejected, ref_chosen, ref_rejected, *, beta=0.1, label_smoothing=0.0
):
    r"""Gradient of `robust_dpo_loss`.

    .. math::

        \frac{\partial \mathcal{L}}{\partial \ln \pi(y_w)}
        = -\beta\, \frac{(1 - \varepsilon)\, \sigma(-\beta h) + \varepsilon\, \sigma(\beta h)}{1 - 2 \varepsilon}
        = -\frac{\partial \mathcal{L}}{\partial \ln \pi(y_l)}

    Parameters and errors are those of `robust_dpo_loss`, where the source is named.

    Returns
    -------
    PairGradient

    Examples
    --------
    >>> gradient = robust_dpo_gradient(-1.0, -3.0, -1.0, -3.0, beta=0.5, label_smoothing=0.25)
    >>> float(gradient.chosen)
    -0.5
    """
    z, beta = _scaled_margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta)
    eps = _as_label_smoothing(label_smoothing)
    weight = ((1 - eps) * sigmoid(-z) + eps * sigmoid(z)) / (1 - 2 * eps)
    return _through_margin(-beta * weight)


def ipo_loss(policy_chosen, policy_rejected, ref_chosen, ref_rejected, *, tau=0.1):
    r"""Loss of IPO: the squared distance of the margin from a finite target.

    .. math:: \Bigl( h - \frac{1}{2 \tau} \Bigr)^2

    Parameters
    ----------
    policy_chosen, policy_rejected, ref_chosen, ref_rejected
        As in `log_ratio_margin`.
    tau : float, default 0.1
        Strength of the regularisation (> 0).

    Returns
    -------
    float or ndarray
        The loss of each pair.

    Raises
    ------
    ValueError
        As `log_ratio_margin`; and if `tau` is not one positive number.

    References
    ----------
    Azar et al. (2023), *A General Theoretical Paradigm to Understand Learning from
    Human Preferences*.

    Examples
    --------
    >>> float(ipo_loss(-1.0, -3.0, -1.0, -3.0, tau=0.5))
    1.0
    """
    h = log_ratio_margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected)
    return (h - _ipo_target(tau)) ** 2


def ipo_gradient(policy_chosen, policy_rejected, ref_chosen, ref_rejected, *, tau=0.1):
    r"""Gradient of `ipo_loss`.

    .. math::

        \frac{\partial \mathcal{L}}{\partial \ln \pi(y_w)}
        = 2 \Bigl( h - \frac{1}{2 \tau} \Bigr)
        = -\frac{\partial \mathcal{L}}{\partial \ln \pi(y_l)}

    Parameters and errors are those of `ipo_loss`, where the source is named.

    Returns
    -------
    PairGradient

    Examples
    --------
    >>> float(ipo_gradient(-1.0, -3.0, -1.0, -3.0, tau=0.5).chosen)
    -2.0
    """
    h = log_ratio_margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected)
    return _through_margin(2 * (h - _ipo_target(tau)))


def hinge_loss(policy_chosen, policy_rejected, ref_chosen, ref_rejected, *, beta=0.1):
    r"""Hinge loss on the margin, as in SLiC.

    .. math:: \max(0,\; 1 - \beta h)

    Parameters
    ----------
    policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta
        As in `dpo_loss`.

    Returns
    -------
    float or ndarray
        The loss of each pair.

    Raises
    ------
    ValueError
        As `dpo_loss`.

    References
    ----------
    Zhao et al. (2023), *SLiC-HF: Sequence Likelihood Calibration with Human Feedback*, for
    the hinge; Liu et al. (2024), *Statistical Rejection Sampling Improves Preference
    Optimization*, for the hinge on log-ratios.

    Examples
    --------
    >>> float(hinge_loss(-1.0, -3.0, -1.5, -2.5, beta=0.5))
    0.5
    """
    z, beta = _scaled_margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta)
    return np.maximum(0.0, 1 - z)


def hinge_gradient(policy_chosen, policy_rejected, ref_chosen, ref_rejected, *, beta=0.1):
    r"""Gradient of `hinge_loss`; at the kink, where it has none, 0.

    .. math::

        \frac{\partial \mathcal{L}}{\partial \ln \pi(y_w)} = -\beta\, [\beta h < 1]
        = -\frac{\partial \mathcal{L}}{\partial \ln \pi(y_l)}

    Parameters and errors are those of `hinge_loss`, where the source is named.

    Returns
    -------
    PairGradient

    Examples
    --------
    >>> float(hinge_gradient(-1.0, -3.0, -1.0, -3.0, beta=0.5).chosen)
    -0.5
    """
    z, beta = _scaled_margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta)
    return _through_margin(np.where(z < 1, -beta, 0.0))


def simpo_loss(
    policy_chosen, policy_rejected, chosen_length, rejected_length, *, beta=2.0, gamma=1.0
):
    r"""Loss of SimPO: means over tokens, a target margin, and no reference.

    .. math::

        -\ln \sigma\Bigl( \frac{\beta}{|y_w|} \ln \pi(y_w)
        - \frac{\beta}{|y_l|} \ln \pi(y_l) - \gamma \Bigr)

    Parameters
    ----------
    policy_chosen, policy_rejected : array_like
        Log-probabilities of responses (<= 0), sums over tokens.
    chosen_length, rejected_length : array_like
        Numbers of tokens (> 0).
    beta : float, default 2
        Scale of the reward (> 0).
    gamma : float, default 1
        Target margin (>= 0), on the scale of beta times the mean log-probability.

    Returns
    -------
    float or ndarray
        The loss of each pair, in nats.

    Raises
    ------
    ValueError
        If an argument is out of range, or the shapes do not broadcast.

    References
    ----------
    Meng, Xia and Chen (2024), *SimPO: Simple Preference Optimization with a
    Reference-Free Reward*.

    Examples
    --------
    >>> float(simpo_loss(-4.0, -6.0, 4, 3, beta=1.0, gamma=1.0).round(6))
    0.693147
    """
    z, _, _ = _simpo_margin(
        policy_chosen, policy_rejected, chosen_length, rejected_length, beta, gamma
    )
    return minus_log_sigmoid(z)


def simpo_gradient(
    policy_chosen, policy_rejected, chosen_length, rejected_length, *, beta=2.0, gamma=1.0
):
    r"""Gradient of `simpo_loss`.

    .. math::

        \frac{\partial \mathcal{L}}{\partial \ln \pi(y_w)} = -\frac{\beta}{|y_w|}\, \sigma(-z), \qquad
        \frac{\partial \mathcal{L}}{\partial \ln \pi(y_l)} = \frac{\beta}{|y_l|}\, \sigma(-z)

    where z is the argument of the logistic function in the loss. Parameters and errors
    are those of `simpo_loss`, where the source is named.

    Returns
    -------
    PairGradient

    Examples
    --------
    >>> gradient = simpo_gradient(-4.0, -6.0, 4, 3, beta=1.0, gamma=1.0)
    >>> float(gradient.chosen), round(float(gradient.rejected), 6)
    (-0.125, 0.166667)
    """
    z, (n_chosen, n_rejected), beta = _simpo_margin(
        policy_chosen, policy_rejected, chosen_length, rejected_length, beta, gamma
    )
    weight = beta * sigmoid(-z)
    return PairGradient(-weight / n_chosen, weight / n_rejected)


def orpo_loss(policy_chosen, policy_rejected, chosen_length, rejected_length, *, lambda_=0.1):
    r"""Loss of ORPO: likelihood of the chosen response plus an odds ratio, no reference.

    .. math::

        -\ell_w - \lambda \ln \sigma\Bigl( \ln \frac{e^{\ell_w}}{1 - e^{\ell_w}}
        - \ln \frac{e^{\ell_l}}{1 - e^{\ell_l}} \Bigr), \qquad \ell = \frac{1}{|y|} \ln \pi(y)

    Parameters
    ----------
    policy_chosen, policy_rejected : array_like
        Log-probabilities of responses (< 0), sums over tokens.
    chosen_length, rejected_length : array_like
        Numbers of tokens (> 0).
    lambda_ : float, default 0.1
        Weight of the odds ratio (>= 0).

    Returns
    -------
    float or ndarray
        The loss of each pair, in nats.

    Raises
    ------
    ValueError
        If an argument is out of range (a log-probability of 0 has infinite odds), or the
        shapes do not broadcast.

    References
    ----------
    Hong, Lee and Thorne (2024), *ORPO: Monolithic Preference Optimization without
    Reference Model*.

    Examples
    --------
    Equal odds; what is left is 1 + 0.1 ln 2:

    >>> float(orpo_loss(-4.0, -3.0, 4, 3).round(6))
    1.069315
    """
    mean_chosen, mean_rejected, _ = _means(
        policy_chosen, policy_rejected, chosen_length, rejected_length
    )
    lambda_ = as_number("lambda_", lambda_, (">=", 0))
    odds_chosen, odds_rejected = _log_odds(mean_chosen, mean_rejected)
    return -mean_chosen + lambda_ * minus_log_sigmoid(odds_chosen - odds_rejected)


def orpo_gradient(policy_chosen, policy_rejected, chosen_length, rejected_length, *, lambda_=0.1):
    r"""Gradient of `orpo_loss`.

    .. math::

        \frac{\partial \mathcal{L}}{\partial \ln \pi(y_w)}
        = -\frac{1}{|y_w|} \Bigl( 1 + \frac{\lambda\, \sigma(-z)}{1 - e^{\ell_w}} \Bigr), \qquad
        \frac{\partial \mathcal{L}}{\partial \ln \pi(y_l)}
        = \frac{1}{|y_l|}\, \frac{\lambda\, \sigma(-z)}{1 - e^{\ell_l}}

    where z is the logarithm of the odds ratio. Parameters and errors are those of
    `orpo_loss`, where the source is named.

    Returns
    -------
    PairGradient

    Examples
    --------
    >>> gradient = orpo_gradient(-4.0, -3.0, 4, 3, lambda_=0.0)
    >>> float(gradient.chosen), float(gradient.rejected)
    (-0.25, 0.0)
    """
    mean_chosen, mean_rejected, (n_chosen, n_rejected) = _means(
        policy_chosen, policy_rejected, chosen_length, rejected_length
    )
    lambda_ = as_number("lambda_", lambda_, (">=", 0))
    odds_chosen, odds_rejected = _log_odds(mean_chosen, mean_rejected)
    weight = lambda_ * sigmoid(odds_rejected - odds_chosen)
    # The derivative of the log-odds by the mean log-probability is 1 / (1 - exp(mean)).
    return PairGradient(
        -(1 - weight / np.expm1(mean_chosen)) / n_chosen,
        -weight / np.expm1(mean_rejected) / n_rejected,
    )


def kto_loss(
    policy_chosen,
    policy_rejected,
    ref_chosen,
    ref_rejected,
    *,
    beta=0.1,
    kl=0.0,
    desirable_weight=1.0,
    undesirable_weight=1.0,
):
    r"""Loss of KTO on a pair: the chosen response is desirable, the rejected one is not.

    .. math::

        \lambda_D \bigl[ 1 - \sigma(\beta (\rho_w - z_0)) \bigr]
        + \lambda_U \bigl[ 1 - \sigma(\beta (z_0 - \rho_l)) \bigr], \qquad
        \rho = \ln \frac{\pi(y)}{\pi_{\mathrm{ref}}(y)}

    KTO itself needs no pairs: each response has a label of its own.

    Parameters
    ----------
    policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta
        As in `dpo_loss`.
    kl : float, default 0
        The reference point :math:`z_0` (>= 0): an estimate of the divergence of the policy
        from the reference, in nats, through which no gradient flows.
    desirable_weight, undesirable_weight : float, default 1
        The weights :math:`\lambda_D` and :math:`\lambda_U` (>= 0).

    Returns
    -------
    float or ndarray
        The loss of each pair.

    Raises
    ------
    ValueError
        As `dpo_loss`; and if `kl` or a weight is not one number >= 0.

    References
    ----------
    Ethayarajh et al. (2024), *KTO: Model Alignment as Prospect Theoretic Optimization*.

    Examples
    --------
    >>> float(kto_loss(-1.0, -3.0, -1.0, -3.0))
    1.0
    """
    chosen, rejected, beta = _kto_arguments(
        policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta, kl
    )
    desirable, undesirable = _kto_weights(desirable_weight, undesirable_weight)
    return desirable * sigmoid(-chosen) + undesirable * sigmoid(-rejected)


def kto_gradient(
    policy_chosen,
    policy_rejected,
    ref_chosen,
    ref_rejected,
    *,
    beta=0.1,
    kl=0.0,
    desirable_weight=1.0,
    undesirable_weight=1.0,
):
    r"""Gradient of `kto_loss`, with the reference point held fixed.

    .. math::

        \frac{\partial \mathcal{L}}{\partial \ln \pi(y_w)} = -\lambda_D\, \beta\, \sigma(u)\, \sigma(-u), \qquad
        \frac{\partial \mathcal{L}}{\partial \ln \pi(y_l)} = \lambda_U\, \beta\, \sigma(v)\, \sigma(-v)

    where u and v are the arguments of the two logistic functions in the loss. Parameters
    and errors are those of `kto_loss`, where the source is named.

    Returns
    -------
    PairGradient

    Examples
    --------
    >>> gradient = kto_gradient(-1.0, -3.0, -1.0, -3.0, beta=0.5, undesirable_weight=2.0)
    >>> float(gradient.chosen), float(gradient.rejected)
    (-0.125, 0.25)
    """
    chosen, rejected, beta = _kto_arguments(
        policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta, kl
    )
    desirable, undesirable = _kto_weights(desirable_weight, undesirable_weight)
    return PairGradient(
        -desirable * beta * sigmoid(chosen) * sigmoid(-chosen),
        undesirable * beta * sigmoid(rejected) * sigmoid(-rejected),
    )


def tabular_optimum(reference, log_strengths, beta):
    r"""The policy that minimises the DPO loss, if nothing restricts the policy.

    .. math:: \pi(y) = \frac{1}{Z}\, \pi_{\mathrm{ref}}(y)\, \hat\alpha(y)^{1 / \beta}

    Parameters
    ----------
    reference : array_like, shape (..., n)
        Probabilities of the n responses under the reference.
    log_strengths : array_like, shape (..., n)
        Maximum-likelihood log-strengths of the responses in the comparisons, from
        `kl2dpo.bradley_terry.fit`.
    beta : array_like, shape (...)
        Tightness of the leash (> 0).

    Returns
    -------
    ndarray, shape (..., n)

    Raises
    ------
    ValueError
        As `kl2dpo.rlhf.optimal_policy`.

    References
    ----------
    Chapter 10 of this course.

    Examples
    --------
    >>> tabular_optimum([0.5, 0.3, 0.2], np.log([2, 1, 10 / 3]), 0.5).round(5)
    array([0.44226, 0.06634, 0.4914 ])
    """
    return tilted(reference, log_strengths, beta, name="log_strengths")


def _through_margin(slope):
    """The gradient of a loss that depends on the margin only."""
    return PairGradient(slope, -slope)


def _log_ratios(policy_chosen, policy_rejected, ref_chosen, ref_rejected):
    policy_chosen, policy_rejected, ref_chosen, ref_rejected = _as_log_probabilities(
        policy_chosen=policy_chosen,
        policy_rejected=policy_rejected,
        ref_chosen=ref_chosen,
        ref_rejected=ref_rejected,
    )
    return policy_chosen - ref_chosen, policy_rejected - ref_rejected


def _scaled_margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    beta = as_positive_number("beta", beta)
    h = log_ratio_margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected)
    with np.errstate(over="ignore"):
        return as_finite("(beta * margin)", beta * h), beta


def _ipo_target(tau):
    with np.errstate(over="ignore"):
        return as_finite("1 / (2 tau)", np.float64(0.5) / as_positive_number("tau", tau))


def _simpo_margin(policy_chosen, policy_rejected, chosen_length, rejected_length, beta, gamma):
    mean_chosen, mean_rejected, lengths = _means(
        policy_chosen, policy_rejected, chosen_length, rejected_length
    )
    beta, gamma = as_positive_number("beta", beta), as_number("gamma", gamma, (">=", 0))
    return beta * mean_chosen - beta * mean_rejected - gamma, lengths, beta


def _means(policy_chosen, policy_rejected, chosen_length, rejected_length):
    """Mean log-probabilities of a token, and the lengths."""
    logps = _as_log_probabilities(policy_chosen=policy_chosen, policy_rejected=policy_rejected)
    lengths = (
        as_positive("chosen_length", chosen_length),
        as_positive("rejected_length", rejected_length),
    )
    check_shapes(
        policy_chosen=logps[0],
        policy_rejected=logps[1],
        chosen_length=lengths[0],
        rejected_length=lengths[1],
    )
    with np.errstate(over="ignore"):
        chosen = as_finite("(policy_chosen / chosen_length)", logps[0] / lengths[0])
        rejected = as_finite("(policy_rejected / rejected_length)", logps[1] / lengths[1])
    return chosen, rejected, lengths


def _log_odds(mean_chosen, mean_rejected):
    """ln(p / (1 - p)) from ln p, for both responses."""
    expected = "a number < 0: 0 has infinite odds"
    refuse(mean_chosen == 0, "policy_chosen", mean_chosen, expected)
    refuse(mean_rejected == 0, "policy_rejected", mean_rejected, expected)
    return [mean - np.log(-np.expm1(mean)) for mean in (mean_chosen, mean_rejected)]


def _kto_arguments(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta, kl):
    beta = as_positive_number("beta", beta)
    rewards = implicit_rewards(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=beta)
    point = beta * as_number("kl", kl, (">=", 0))
    return rewards.chosen - point, point - rewards.rejected, beta


def _kto_weights(desirable_weight, undesirable_weight):
    return (
        as_number("desirable_weight", desirable_weight, (">=", 0)),
        as_number("undesirable_weight", undesirable_weight, (">=", 0)),
    )


def _as_log_probabilities(**logps):
    """Return the named log-probabilities as arrays that broadcast."""
    arrays = {name: as_finite(name, value) for name, value in logps.items()}
    for name, array in arrays.items():
        refuse(array > 0, name, array, "a log-probability <= 0")
    check_shapes(**arrays)
    return list(arrays.values())


def _as_label_smoothing(value):
    value = as_number("label_smoothing", value, (">=", 0))
    if value >= 0.5:
        raise ValueError(f"label_smoothing is {value}, expected a number from 0 to below 0.5")
    return value
