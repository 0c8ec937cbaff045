r"""Losses on preference pairs: DPO and its relatives, each with its gradient.

The arguments are log-probabilities of whole responses: sums over their tokens, natural
logarithms. ``policy_chosen[k]`` belongs to the chosen response of pair k under the policy,
``ref_rejected[k]`` to the rejected one under the reference, and so on. All arrays broadcast.
Every loss is returned pair by pair; training takes the mean. `gradient` has the derivatives.

Every loss takes one option more, `nll_weight`: it adds the negative log-likelihood of the
chosen response, as DPO + NLL or RPO does.

.. math:: \mathcal{L} - \lambda \ln \pi(y_w)

The weight :math:`\lambda \geq 0` is one number, or one for each pair: divided by the lengths
of the chosen responses, it weighs their mean over tokens (Pang et al., 2024, *Iterative
Reasoning Preference Optimization*).
"""

import functools
import inspect
from typing import NamedTuple

import numpy as np

from kl2dpo._checks import as_array, as_number, check_labels, check_shapes, refuse
from kl2dpo._logistic import minus_log_sigmoid, sigmoid

__all__ = ["PairGradient", "define_loss", "gradient", "log_ratio_margin"]
__all__ += ["dpo_loss", "hinge_loss", "ipo_loss", "kto_loss", "orpo_loss", "robust_dpo_loss"]
__all__ += ["sigmoid_norm_loss", "simpo_loss"]


class PairGradient(NamedTuple):
    """Derivatives of a pair's loss by the log-probabilities of its two responses."""

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
        If a log-probability is NaN, infinite or positive, the shapes do not broadcast, or
        the margin is too large for a float.

    References
    ----------
    Rafailov et al. (2023), *Direct Preference Optimization*, equation 7.

    Examples
    --------
    >>> float(log_ratio_margin(-1.0, -3.0, -2.0, -2.0))
    2.0
    """
    arguments = _as_arguments(locals())
    with np.errstate(over="ignore"):
        return as_array("the margin", _margin(**arguments))[()]


def _margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected):
    return policy_chosen - ref_chosen - (policy_rejected - ref_rejected)


def _logistic(z, right=1.0, wrong=0.0):
    """-right ln sigmoid(z) - wrong ln sigmoid(-z), and its derivative."""
    loss = (right + wrong) * minus_log_sigmoid(z) + wrong * z  # -ln sigmoid(-z) = z - ln sigmoid(z)
    return loss, wrong * sigmoid(z) - right * sigmoid(-z)


# What a loss may take, and within which bounds.
_LOGPS = ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")
_LENGTHS = ("chosen_length", "rejected_length")
_WEIGHTS = ("gamma", "lambda_", "kl", "desirable_weight", "undesirable_weight")
ARGUMENTS = dict.fromkeys(_LOGPS, ("<=", 0)) | dict.fromkeys(_LENGTHS, (">=", 1))
_ARRAYS = ARGUMENTS | {"nll_weight": (">=", 0)}
_NUMBERS: dict = dict.fromkeys(("beta", "tau"), ((">", 0),)) | dict.fromkeys(_WEIGHTS, ((">=", 0),))
_NUMBERS |= {"label_smoothing": ((">=", 0), ("<", 0.5))}


def _as_arguments(given):
    """The arguments of a loss, checked by their names."""
    check_labels(**{name: value for name, value in given.items() if name in _ARRAYS})
    arrays = {k: as_array(k, v, _ARRAYS[k]) for k, v in given.items() if k in _ARRAYS}
    check_shapes(**arrays)
    numbers = {k: as_number(k, v, *_NUMBERS[k]) for k, v in given.items() if k in _NUMBERS}
    return given | arrays | numbers


def define_loss(formula):
    """Make a loss of a function that returns its values and the slopes of its two responses.

    A decorator: all losses of this module are made by it, and your own can be.

    Parameters
    ----------
    formula : callable
        A function of `policy_chosen`, `policy_rejected` and those of `ref_chosen`,
        `ref_rejected`, `chosen_length`, `rejected_length` that it needs, under these names,
        and of options by keyword. It returns the loss of each pair, and its derivatives by
        `policy_chosen` and by `policy_rejected`.

    Returns
    -------
    callable
        The loss: it checks its arguments, has the option `nll_weight`, and can be given to
        `gradient` and to `kl2dpo.policy.train`.

    Examples
    --------
    >>> @define_loss
    ... def exponential_loss(policy_chosen, policy_rejected, ref_chosen, ref_rejected, *, beta=0.1):
    ...     h = log_ratio_margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected)
    ...     return np.exp(-beta * h), -beta * np.exp(-beta * h), beta * np.exp(-beta * h)
    >>> float(gradient(exponential_loss, -1.0, -3.0, -1.0, -3.0, beta=0.5).chosen)
    -0.5
    """

    @functools.wraps(formula)
    def loss(*arguments, **options):
        return loss_and_gradient(loss, **checked_arguments(loss, *arguments, **options))[0]

    nll_weight = inspect.Parameter("nll_weight", inspect.Parameter.KEYWORD_ONLY, default=0.0)
    parameters = inspect.signature(formula).parameters
    missing = {"policy_chosen", "policy_rejected"} - set(parameters)
    refuse(bool(missing), "the arguments of formula", list(parameters), f"among them {missing}")
    signature = inspect.Signature([*parameters.values(), nll_weight])
    loss.__dict__.update(formula=formula, __signature__=signature)
    return loss


def checked_arguments(loss, *arguments, **options):
    """The arguments of a loss by their names, its defaults among them."""
    signature = inspect.signature(loss)
    try:
        bound = signature.bind(*arguments, **options)
    except TypeError as error:
        raise TypeError(f"{loss.__name__}{signature}: {error}") from None
    bound.apply_defaults()
    return _as_arguments(bound.arguments)


def loss_and_gradient(loss, nll_weight, **given):
    """Both at once, from arguments that are checked; an overflow is refused."""
    with np.errstate(all="ignore"):
        value, chosen, rejected = loss.formula(**given)
        value, chosen = value - nll_weight * given["policy_chosen"], chosen - nll_weight
        every = value + chosen + rejected  # so that one check will do, at each step of a training
    numbers = ", ".join(f"{name}={given[name]}" for name in given if name in _NUMBERS)
    as_array(f"({loss.__name__} at {numbers})", every)
    return value, PairGradient(chosen, rejected)


def gradient(loss, *arguments, **options):
    r"""Derivatives of a loss by `policy_chosen` and by `policy_rejected`.

    With h the margin of `log_ratio_margin`, z what stands in :math:`\ln \sigma(\cdot)` in the
    loss, and :math:`[\,\cdot\,]` 1 where true and 0 where not, the derivatives are

    .. list-table::
       :header-rows: 1

       * - loss
         - by :math:`\ln \pi(y_w)`
         - by :math:`\ln \pi(y_l)`
       * - `dpo_loss`
         - :math:`-\beta\, (1 - \varepsilon)\, \sigma(-\beta h) + \beta\, \varepsilon\, \sigma(\beta h)`
         - the same, times -1
       * - `robust_dpo_loss`
         - :math:`-\beta\, \dfrac{(1 - \varepsilon)\, \sigma(-\beta h) + \varepsilon\, \sigma(\beta h)}{1 - 2 \varepsilon}`
         - the same, times -1
       * - `ipo_loss`
         - :math:`2\, (h - 1 / (2 \tau))`
         - the same, times -1
       * - `hinge_loss`
         - :math:`-\beta\, [\beta h < 1]`
         - the same, times -1
       * - `sigmoid_norm_loss`, `simpo_loss`
         - :math:`-\beta\, \sigma(-z) / |y_w|`
         - :math:`\beta\, \sigma(-z) / |y_l|`
       * - `orpo_loss`
         - :math:`-\dfrac{1}{|y_w|} \Bigl( 1 + \dfrac{\lambda\, \sigma(-z)}{1 - e^{\ell_w}} \Bigr)`
         - :math:`\dfrac{1}{|y_l|}\, \dfrac{\lambda\, \sigma(-z)}{1 - e^{\ell_l}}`
       * - `kto_loss`
         - :math:`-\lambda_D\, \beta\, \sigma(u)\, \sigma(-u)`
         - :math:`\lambda_U\, \beta\, \sigma(v)\, \sigma(-v)`

    A term for the likelihood subtracts `nll_weight` from the first.

    Parameters
    ----------
    loss : callable or str
        A loss of this module, or your own by `define_loss`; or its name in `kl2dpo.policy.train`.
    *arguments, **options
        Those of the loss.

    Returns
    -------
    PairGradient
        Named tuple ``(chosen, rejected)``.

    Raises
    ------
    ValueError
        As the loss; and if `loss` is something else.

    Examples
    --------
    >>> slope = gradient(dpo_loss, -1.0, -3.0, -1.0, -3.0, beta=0.5)
    >>> float(slope.chosen), float(slope.rejected)
    (-0.25, 0.25)
    >>> float(gradient(ipo_loss, -1.0, -3.0, -1.0, -3.0, tau=0.5).chosen)
    -2.0
    """
    loss = as_loss(loss)
    return loss_and_gradient(loss, **checked_arguments(loss, *arguments, **options))[1]


def as_loss(loss):
    """A loss from its name, or one made by `define_loss`."""
    found = LOSSES.get(loss) if isinstance(loss, str) else loss
    expected = f"one of {', '.join(sorted(LOSSES))} (cDPO is dpo with label_smoothing), or your own"
    refuse(not hasattr(found, "formula"), "loss", repr(loss), expected + " by define_loss")
    return found


@define_loss
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
    nll_weight : array_like, default 0
        Weight of the chosen response's negative log-likelihood (>= 0), as in every loss.

    Returns
    -------
    float or ndarray
        The loss of each pair, in nats.

    Raises
    ------
    ValueError
        As `log_ratio_margin`; if `beta` or another option is out of range; and if the loss
        is too large for a float.

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
    h = _margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected)
    # Without smoothing, -ln sigmoid(beta h) and its slope; then the derivatives by both log-probabilities.
    loss, slope = _logistic(beta * h, 1 - label_smoothing, label_smoothing)
    return loss, beta * slope, -beta * slope


@define_loss
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
    Ray Chowdhury, Kini and Natarajan (2024), *Provably Robust DPO: Aligning Language
    Models with Noisy Feedback*.

    Examples
    --------
    >>> float(robust_dpo_loss(-1.0, -3.0, -1.0, -3.0, label_smoothing=0.1).round(6))
    0.693147
    """
    h = _margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected)
    loss, slope = _logistic(beta * h, 1 - label_smoothing, -label_smoothing)
    slope = beta * slope / (1 - 2 * label_smoothing)
    return loss / (1 - 2 * label_smoothing), slope, -slope


@define_loss
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
        As `dpo_loss`, with `tau` in place of `beta`.

    References
    ----------
    Azar et al. (2023), *A General Theoretical Paradigm to Understand Learning from
    Human Preferences*.

    Examples
    --------
    >>> float(ipo_loss(-1.0, -3.0, -1.0, -3.0, tau=0.5))
    1.0
    """
    h = _margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected)
    gap = h - 1 / (2 * tau)
    return gap**2, 2 * gap, -2 * gap


@define_loss
def hinge_loss(policy_chosen, policy_rejected, ref_chosen, ref_rejected, *, beta=0.1):
    r"""Loss of SLiC, on log-ratios: the hinge of the margin.

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
    h = _margin(policy_chosen, policy_rejected, ref_chosen, ref_rejected)
    slope = np.where(beta * h < 1, -beta, 0.0)  # 0 at the kink, which has no derivative
    return np.maximum(0, 1 - beta * h), slope, -slope


@define_loss
def sigmoid_norm_loss(
    policy_chosen,
    policy_rejected,
    ref_chosen,
    ref_rejected,
    chosen_length,
    rejected_length,
    *,
    beta=2.0,
):
    r"""Loss of length-normalised DPO: log-ratios are means over tokens.

    .. math::

        -\ln \sigma\Bigl( \frac{\beta}{|y_w|} \ln \frac{\pi(y_w)}{\pi_{\mathrm{ref}}(y_w)}
        - \frac{\beta}{|y_l|} \ln \frac{\pi(y_l)}{\pi_{\mathrm{ref}}(y_l)} \Bigr)

    The library TRL calls it ``sigmoid_norm``. Its optimum is not that of DPO or RLHF.

    Parameters
    ----------
    policy_chosen, policy_rejected, ref_chosen, ref_rejected
        As in `log_ratio_margin`.
    chosen_length, rejected_length : array_like
        Numbers of tokens (>= 1).
    beta : float, default 2
        Scale of the mean log-ratio (> 0). Values of 2 to 5 are in use: they weigh a token,
        and cannot be compared with the `beta` of `dpo_loss`.

    Returns
    -------
    float or ndarray
        The loss of each pair, in nats.

    Raises
    ------
    ValueError
        As `dpo_loss`; and if a length is below 1.

    References
    ----------
    Lambert et al. (2024), *Tulu 3: Pushing Frontiers in Open Language Model
    Post-Training*, equation 6.

    Examples
    --------
    >>> float(sigmoid_norm_loss(-4.0, -6.0, -6.0, -6.0, 4, 3, beta=2.0).round(6))
    0.313262
    """
    chosen, rejected = policy_chosen - ref_chosen, policy_rejected - ref_rejected
    loss, slope = _logistic(beta * (chosen / chosen_length - rejected / rejected_length))
    return loss, beta * slope / chosen_length, -beta * slope / rejected_length


@define_loss
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
        Numbers of tokens (>= 1).
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
        If an argument is out of range, the shapes do not broadcast, or the loss is too
        large for a float.

    References
    ----------
    Meng, Xia and Chen (2024), *SimPO: Simple Preference Optimization with a
    Reference-Free Reward*.

    Examples
    --------
    >>> float(simpo_loss(-4.0, -6.0, 4, 3, beta=1.0, gamma=1.0).round(6))
    0.693147
    """
    z = beta * policy_chosen / chosen_length - beta * policy_rejected / rejected_length - gamma
    loss, slope = _logistic(z)
    return loss, beta * slope / chosen_length, -beta * slope / rejected_length


@define_loss
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
        Numbers of tokens (>= 1).
    lambda_ : float, default 0.1
        Weight of the odds ratio (>= 0).

    Returns
    -------
    float or ndarray
        The loss of each pair, in nats.

    Raises
    ------
    ValueError
        As `simpo_loss`; a log-probability of 0 has infinite odds.

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
    chosen = as_array("policy_chosen", policy_chosen, ("<", 0)) / chosen_length
    rejected = as_array("policy_rejected", policy_rejected, ("<", 0)) / rejected_length
    loss, slope = _logistic(_log_odds(chosen) - _log_odds(rejected))
    # The derivative of the log-odds by the mean log-probability is 1 / (1 - exp(mean)).
    by_chosen, by_rejected = (lambda_ * slope / np.expm1(x) for x in (chosen, rejected))
    return lambda_ * loss - chosen, -(1 + by_chosen) / chosen_length, by_rejected / rejected_length


def _log_odds(logp):
    """ln(p / (1 - p)) from ln p."""
    return logp - np.log(-np.expm1(logp))


@define_loss
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

        \lambda_D \bigl[ 1 - \sigma(u) \bigr] + \lambda_U \bigl[ 1 - \sigma(v) \bigr], \qquad
        u = \beta (\rho_w - z_0), \quad v = \beta (z_0 - \rho_l), \quad
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
        As `dpo_loss`.

    References
    ----------
    Ethayarajh et al. (2024), *Model Alignment as Prospect Theoretic Optimization*.

    Examples
    --------
    >>> float(kto_loss(-1.0, -3.0, -1.0, -3.0))
    1.0
    """
    u = beta * (policy_chosen - ref_chosen - kl)
    v = beta * (kl - policy_rejected + ref_rejected)
    desirable, undesirable = desirable_weight * sigmoid(-u), undesirable_weight * sigmoid(-v)
    return desirable + undesirable, -beta * desirable * sigmoid(u), beta * undesirable * sigmoid(v)


_NAMED = [dpo_loss, robust_dpo_loss, ipo_loss, hinge_loss, sigmoid_norm_loss]
_NAMED += [simpo_loss, orpo_loss, kto_loss]
LOSSES = {loss.__name__.removesuffix("_loss").removesuffix("_dpo"): loss for loss in _NAMED}
