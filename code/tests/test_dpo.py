from decimal import Decimal
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose

from kl2dpo import dpo
from kl2dpo.bradley_terry import fit, win_probability
from kl2dpo.datasets import football

logps = st.floats(-30, -0.01)
pairs = st.tuples(logps, logps, logps, logps)
betas = st.floats(0.05, 5)

# Every loss with its gradient and options; the last two arguments are lengths for some.
WITH_REFERENCE = {
    "dpo": (dpo.dpo_loss, dpo.dpo_gradient, {"beta": 0.3}),
    "cdpo": (dpo.dpo_loss, dpo.dpo_gradient, {"beta": 0.7, "label_smoothing": 0.2}),
    "robust": (dpo.robust_dpo_loss, dpo.robust_dpo_gradient, {"beta": 0.7, "label_smoothing": 0.2}),
    "ipo": (dpo.ipo_loss, dpo.ipo_gradient, {"tau": 0.4}),
    "hinge": (dpo.hinge_loss, dpo.hinge_gradient, {"beta": 0.3}),
    "kto": (
        dpo.kto_loss,
        dpo.kto_gradient,
        {"beta": 0.3, "kl": 0.8, "desirable_weight": 1.3, "undesirable_weight": 0.7},
    ),
}
WITH_LENGTHS = {
    "simpo": (dpo.simpo_loss, dpo.simpo_gradient, {"beta": 2.5, "gamma": 1.4}),
    "orpo": (dpo.orpo_loss, dpo.orpo_gradient, {"lambda_": 0.6}),
}
ALL = WITH_REFERENCE | WITH_LENGTHS
MARGIN_LOSSES = ["dpo", "cdpo", "robust", "ipo", "hinge"]


def others(name, rng, size):
    """The third and fourth argument."""
    if name in WITH_LENGTHS:
        return rng.integers(1, 12, size), rng.integers(1, 12, size)
    return -rng.exponential(5, size), -rng.exponential(5, size)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 100.0])
def test_gradients_against_finite_differences(name, scale):
    loss, gradient, options = ALL[name]
    rng = np.random.default_rng(7)
    chosen, rejected = -scale * rng.uniform(0.1, 2, (2, 50))
    rest = others(name, rng, 50)
    if name == "hinge":
        h = dpo.log_ratio_margin(chosen, rejected, *rest)
        keep = np.abs(options["beta"] * h - 1) > 1e-3  # not at the kink
        chosen, rejected, rest = chosen[keep], rejected[keep], [r[keep] for r in rest]
    step = 1e-5 * scale
    f = partial(loss, **options)
    by_chosen = (f(chosen + step, rejected, *rest) - f(chosen - step, rejected, *rest)) / (2 * step)
    by_rejected = (f(chosen, rejected + step, *rest) - f(chosen, rejected - step, *rest)) / (
        2 * step
    )
    exact = gradient(chosen, rejected, *rest, **options)
    assert_allclose(exact.chosen, by_chosen, rtol=1e-4, atol=1e-7)
    assert_allclose(exact.rejected, by_rejected, rtol=1e-4, atol=1e-7)


@given(pairs, betas)
def test_formulas_of_the_margin_losses(pair, beta):
    pc, pr, rc, rr = pair
    h = (pc - rc) - (pr - rr)
    assert_allclose(dpo.log_ratio_margin(*pair), h, atol=1e-12)
    right, wrong = 1 / (1 + np.exp(-beta * h)), 1 / (1 + np.exp(beta * h))
    eps = 0.15
    assert_allclose(dpo.dpo_loss(*pair, beta=beta), np.log1p(np.exp(-beta * h)), rtol=1e-9)
    conservative = -(1 - eps) * np.log(right) - eps * np.log(wrong)
    assert_allclose(dpo.dpo_loss(*pair, beta=beta, label_smoothing=eps), conservative, rtol=1e-7)
    robust = (-(1 - eps) * np.log(right) + eps * np.log(wrong)) / (1 - 2 * eps)
    assert_allclose(
        dpo.robust_dpo_loss(*pair, beta=beta, label_smoothing=eps), robust, rtol=1e-6, atol=1e-9
    )
    assert_allclose(dpo.ipo_loss(*pair, tau=beta), (h - 0.5 / beta) ** 2, rtol=1e-9, atol=1e-12)
    assert_allclose(dpo.hinge_loss(*pair, beta=beta), max(0, 1 - beta * h), atol=1e-12)
    rewards = dpo.implicit_rewards(*pair, beta=beta)
    assert_allclose(rewards, [beta * (pc - rc), beta * (pr - rr)], atol=1e-12)


@given(pairs, betas)
def test_dpo_is_bradley_terry_on_the_implicit_rewards(pair, beta):
    rewards = dpo.implicit_rewards(*pair, beta=beta)
    p = win_probability(np.exp(rewards.chosen), np.exp(rewards.rejected))
    assert_allclose(np.exp(-dpo.dpo_loss(*pair, beta=beta)), p, rtol=1e-9)


@given(pairs, betas, st.floats(0, 0.45))
def test_swapping_the_labels(pair, beta, eps):
    pc, pr, rc, rr = pair
    swapped = pr, pc, rr, rc
    right, wrong = dpo.dpo_loss(*pair, beta=beta), dpo.dpo_loss(*swapped, beta=beta)
    assert_allclose(np.exp(-right) + np.exp(-wrong), 1, rtol=1e-12)
    options = {"beta": beta, "label_smoothing": eps}
    mixed = (1 - eps) * right + eps * wrong
    assert_allclose(dpo.dpo_loss(*pair, **options), mixed, rtol=1e-12)
    # Robust DPO is unbiased: its mean over flips is the loss of the true label.
    mean = (1 - eps) * dpo.robust_dpo_loss(*pair, **options)
    mean += eps * dpo.robust_dpo_loss(*swapped, **options)
    assert_allclose(mean, right, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["dpo", "robust", "hinge", "simpo", "kto", "orpo"])
def test_losses_fall_as_the_margin_grows(name):
    loss, gradient, options = ALL[name]
    rest = (3, 5) if name in WITH_LENGTHS else (-4.0, -4.0)
    chosen = np.linspace(-9, -0.5, 40)
    assert np.all(np.diff(loss(chosen, -4.0, *rest, **options)) <= 0)
    assert np.all(np.diff(loss(-4.0, chosen, *rest, **options)) >= 0)
    slopes = gradient(chosen, -4.0, *rest, **options)
    assert np.all(slopes.chosen <= 0) and np.all(slopes.rejected >= 0)


def test_where_the_two_losses_with_a_target_rest():
    # cDPO at sigma(beta h) = 1 - eps, IPO at h = 1 / (2 tau).
    h = np.log(0.8 / 0.2) / 0.5
    at = dpo.dpo_gradient(-1.0, -1.0 - h, -1.0, -1.0, beta=0.5, label_smoothing=0.2)
    assert_allclose(at.chosen, 0, atol=1e-15)
    assert dpo.ipo_gradient(-1.0, -3.0, -1.0, -1.0, tau=0.25).chosen == 0


def test_robust_dpo_is_not_bounded_below():
    far = dpo.robust_dpo_loss(0.0, [-1e2, -1e3, -1e4], 0.0, 0.0, beta=1.0, label_smoothing=0.1)
    assert np.all(np.diff(far) < 0) and far[-1] < -1e3


def test_extreme_margins():
    assert dpo.dpo_loss(-1e4, 0.0, 0.0, 0.0, beta=1.0) == 1e4
    assert dpo.dpo_loss(0.0, -1e4, 0.0, 0.0, beta=1.0) == 0
    assert dpo.dpo_gradient(-1e4, 0.0, 0.0, 0.0, beta=1.0).chosen == -1


def test_simpo_orpo_and_kto_by_hand():
    z = 2.0 * (-4 / 4) - 2.0 * (-9 / 3) - 1.5
    expected = np.log1p(np.exp(-z))
    assert_allclose(dpo.simpo_loss(-4.0, -9.0, 4, 3, beta=2.0, gamma=1.5), expected)
    odds = [np.exp(m) / (1 - np.exp(m)) for m in (-1, -3)]
    expected = 1 + 0.25 * np.log1p(odds[1] / odds[0])
    assert_allclose(dpo.orpo_loss(-4.0, -9.0, 4, 3, lambda_=0.25), expected)
    expected = 2 / (1 + np.exp(0.5 * (3 - 0.2))) + 3 / (1 + np.exp(0.5 * (0.2 + 1)))
    found = dpo.kto_loss(
        -1.0, -6.0, -4.0, -5.0, beta=0.5, kl=0.2, desirable_weight=2, undesirable_weight=3
    )
    assert_allclose(found, expected)


@pytest.mark.parametrize(
    "reference, beta",
    [([1 / 3, 1 / 3, 1 / 3], 1.0), ([0.5, 0.3, 0.2], 0.5), ([0.1, 0.8, 0.1], 2.0)],
)
def test_gradient_descent_reaches_the_closed_form(reference, beta):
    wins = football().wins
    winners, losers = np.nonzero(wins)
    counts = wins[winners, losers] / wins.sum()
    reference = np.array(reference)
    logits = np.log(reference)
    for _ in range(20_000):
        log_policy = logits - np.log(np.exp(logits).sum())
        rows = [log_policy[winners], log_policy[losers]]
        rows += [np.log(reference)[winners], np.log(reference)[losers]]
        gradient = dpo.dpo_gradient(*rows, beta=beta)
        # The normalisation cancels in the margin, so this is the gradient by the logits.
        step = np.bincount(winners, counts * gradient.chosen)
        step += np.bincount(losers, counts * gradient.rejected)
        logits = logits - step / beta**2
    policy = np.exp(logits) / np.exp(logits).sum()
    exact = dpo.tabular_optimum(reference, fit(wins).log_strengths, beta)
    assert 0.5 * np.abs(policy - exact).sum() < 1e-6
    if beta == 1:
        assert_allclose(exact, np.array([6, 3, 10]) / 19, atol=1e-9)


def test_arrays_broadcast():
    assert dpo.dpo_loss(np.full((3, 1), -1.0), np.full(4, -2.0), -1.0, -2.0).shape == (3, 4)
    assert dpo.orpo_loss(np.full((3, 1), -1.0), np.full(4, -2.0), 2, 3).shape == (3, 4)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "bad, message",
    [
        (0.5, r"policy_chosen\[1\] is 0.5, expected a log-probability <= 0"),
        (np.nan, r"policy_chosen\[1\] is nan, expected a finite number"),
        (-np.inf, r"policy_chosen\[1\] is -inf, expected a finite number"),
    ],
)
def test_bad_log_probabilities_are_refused(name, bad, message):
    rest = (2, 3) if name in WITH_LENGTHS else (-1.0, -1.0)
    for function in ALL[name][:2]:
        with pytest.raises(ValueError, match="^" + message):
            function([-1.0, bad], -1.0, *rest)
        with pytest.raises(ValueError, match="^" + message.replace("chosen", "rejected")):
            function(-1.0, [-1.0, bad], *rest)
        with pytest.raises(ValueError, match="^shapes do not broadcast: policy_chosen"):
            function([-1.0, -2.0], [-1.0, -1.0, -1.0], *rest)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("dpo", {"beta": 0}, "beta is 0.0, expected a number > 0"),
        ("dpo", {"beta": [1, 2]}, r"beta is \[1, 2\], expected one number > 0"),
        ("dpo", {"beta": True}, "beta is True, expected one number > 0"),
        ("dpo", {"beta": 1e308}, r"\(beta \* margin\) is inf, expected a finite number"),
        ("ipo", {"tau": 1e-320}, r"1 / \(2 tau\) is inf"),
        ("dpo", {"label_smoothing": 0.5}, "label_smoothing is 0.5, expected a number from 0 to"),
        ("dpo", {"label_smoothing": -0.1}, "label_smoothing is -0.1, expected one number >= 0"),
        ("robust", {"label_smoothing": 0.5}, "label_smoothing is 0.5"),
        ("robust", {"beta": -1}, "beta is -1.0"),
        ("ipo", {"tau": 0}, "tau is 0.0, expected a number > 0"),
        ("hinge", {"beta": np.nan}, "beta is nan"),
        ("simpo", {"gamma": -1}, "gamma is -1, expected one number >= 0"),
        ("simpo", {"beta": 0}, "beta is 0.0"),
        ("orpo", {"lambda_": -1}, "lambda_ is -1, expected one number >= 0"),
        ("kto", {"beta": 0}, "beta is 0.0, expected a number > 0"),
        ("kto", {"kl": -0.1}, "kl is -0.1, expected one number >= 0"),
        ("kto", {"desirable_weight": -1}, "desirable_weight is -1"),
        ("kto", {"undesirable_weight": np.inf}, "undesirable_weight is inf"),
    ],
)
def test_bad_options_are_refused(name, options, message):
    rest = (2, 3) if name in WITH_LENGTHS else (-1.0, -1.0)
    for function in ALL[name][:2]:
        with pytest.raises(ValueError, match="^" + message):
            function(-1.0, -20.0, *rest, **options)


def test_bad_beta_of_the_implicit_rewards_is_refused():
    with pytest.raises(ValueError, match="^beta is 0.0, expected a number > 0"):
        dpo.implicit_rewards(-1.0, -2.0, -1.0, -1.0, beta=0)
    with pytest.raises(ValueError, match=r"^beta is \[1, 2\], expected one number > 0"):
        dpo.implicit_rewards(-1.0, -2.0, -1.0, -1.0, beta=[1, 2])


def test_bad_lengths_and_odds_are_refused():
    for function in (dpo.simpo_loss, dpo.orpo_loss):
        with pytest.raises(ValueError, match="^chosen_length is 0.0, expected a number > 0"):
            function(-1.0, -2.0, 0, 3)
        with pytest.raises(ValueError, match=r"^rejected_length\[1\] is -1.0"):
            function(-1.0, -2.0, 3, [3, -1])
        with pytest.raises(ValueError, match=r"^\(policy_chosen / chosen_length\) is -inf"):
            function(-1.0, -2.0, 1e-320, 1)
        with pytest.raises(ValueError, match=r"^\(policy_rejected / rejected_length\) is -inf"):
            function(-1.0, -2.0, 1, 1e-320)
    for function in (dpo.orpo_loss, dpo.orpo_gradient):
        with pytest.raises(ValueError, match="^policy_chosen is 0.0, expected a number < 0"):
            function(0.0, -2.0, 2, 3)
        with pytest.raises(
            ValueError, match=r"^policy_rejected\[1\] is 0.0, expected a number < 0"
        ):
            function(-2.0, [-1.0, 0.0], 2, 3)


def test_numbers_of_other_types():
    for name, (loss, gradient, options) in ALL.items():
        rest = (2, 3) if name in WITH_LENGTHS else (-1.0, -1.0)
        others = {key: Decimal(str(value)) for key, value in options.items()}
        assert_allclose(loss(-1.0, -2.0, *rest, **others), loss(-1.0, -2.0, *rest, **options))
        expected = gradient(-1.0, -2.0, *rest, **options)
        assert_allclose(gradient(-1.0, -2.0, *rest, **others), expected)


def test_no_gradient_at_the_kink_of_the_hinge():
    assert dpo.hinge_gradient(-1.0, -3.0, -2.0, -2.0, beta=0.5).chosen == 0


def test_odds_of_nearly_certain_responses():
    expected = 1e-18 + 0.1 * np.logaddexp(0, (-2 - np.log(-np.expm1(-2))) - 18 * np.log(10))
    assert_allclose(dpo.orpo_loss(-1e-18, -2.0, 1, 1), expected, rtol=1e-9)


@given(hnp.arrays(float, 3, elements=st.floats(-3, 3)), betas)
def test_tabular_optimum(log_strengths, beta):
    reference = np.array([0.5, 0.3, 0.2])
    weights = reference * np.exp(log_strengths) ** (1 / beta)
    expected = weights / weights.sum()
    assert_allclose(dpo.tabular_optimum(reference, log_strengths, beta), expected, rtol=1e-8)
    for bad, message in [([], "is empty"), (1.0, "is a single number"), ([1, 2], "has 2")]:
        with pytest.raises(ValueError, match=f"log_strengths {message}"):
            dpo.tabular_optimum(reference, bad, beta)


@pytest.mark.parametrize(
    "name, defaults",
    [
        ("dpo", {"beta": 0.1, "label_smoothing": 0}),
        ("robust", {"beta": 0.1, "label_smoothing": 0}),
        ("ipo", {"tau": 0.1}),
        ("hinge", {"beta": 0.1}),
        ("kto", {"beta": 0.1, "kl": 0, "desirable_weight": 1, "undesirable_weight": 1}),
        ("simpo", {"beta": 2, "gamma": 1}),
        ("orpo", {"lambda_": 0.1}),
    ],
)
def test_the_defaults_are_the_documented_ones(name, defaults):
    rest = (2, 3) if name in WITH_LENGTHS else (-3.0, -1.0)
    for function in ALL[name][:2]:
        assert_allclose(function(-1.0, -2.5, *rest), function(-1.0, -2.5, *rest, **defaults))
    pair = -1.0, -2.5, -3.0, -1.0
    assert_allclose(dpo.implicit_rewards(*pair), dpo.implicit_rewards(*pair, beta=0.1))


def test_weights_of_kto():
    # A weight of 0 leaves the other response alone.
    pair, options = (-1.0, -6.0, -4.0, -5.0), {"beta": 0.5, "kl": 0.2}
    only = {"desirable_weight": 0, "undesirable_weight": 1}
    assert_allclose(dpo.kto_loss(*pair, **options, **only), 1 / (1 + np.exp(0.5 * (0.2 + 1))))
    assert dpo.kto_gradient(*pair, **options, **only).chosen == 0
    only = {"desirable_weight": 1, "undesirable_weight": 0}
    assert_allclose(dpo.kto_loss(*pair, **options, **only), 1 / (1 + np.exp(0.5 * (3 - 0.2))))
    assert dpo.kto_gradient(*pair, **options, **only).rejected == 0


def test_lengths_that_do_not_fit_are_refused():
    for name in WITH_LENGTHS:
        for function in ALL[name][:2]:
            for shapes in [((2,), (), (3,), ()), ((), (2,), (), (3,)), ((), (), (2,), (3,))]:
                chosen, rejected, *lengths = map(np.ones, shapes)
                names = ["policy_chosen", "policy_rejected", "chosen_length", "rejected_length"]
                found = ", ".join(f"{name} {shape}" for name, shape in zip(names, shapes))
                with pytest.raises(ValueError) as caught:
                    function(-chosen, -rejected, *lengths)
                assert str(caught.value) == f"shapes do not broadcast: {found}"
