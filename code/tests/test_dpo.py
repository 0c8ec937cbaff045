import inspect
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from kl2dpo import dpo
from kl2dpo.bradley_terry import fit
from kl2dpo.datasets import football
from kl2dpo.rlhf import implicit_reward, optimal_policy

logps = st.floats(-30, -0.01)
pairs = st.tuples(logps, logps, logps, logps)
betas = st.floats(0.05, 5)


def sigma(z):
    return 1 / (1 + np.exp(-z))


def odds(mean):
    return np.exp(mean) / (1 - np.exp(mean))


def dpo_by_hand(h, beta, label_smoothing=0.0):
    eps = label_smoothing
    return -(1 - eps) * np.log(sigma(beta * h)) - eps * np.log(sigma(-beta * h))


def robust_by_hand(h, beta, label_smoothing):
    eps = label_smoothing
    return (dpo_by_hand(h, beta) * (1 - eps) - eps * dpo_by_hand(-h, beta)) / (1 - 2 * eps)


def kto_by_hand(u, v, beta, kl, desirable_weight, undesirable_weight):
    desirable = desirable_weight * (1 - sigma(beta * (u - kl)))
    return desirable + undesirable_weight * (1 - sigma(beta * (kl - v)))


def of_margin(formula):
    return lambda pc, pr, rc, rr, **options: formula((pc - rc) - (pr - rr), **options)


# Every loss with options of its own and its formula, written plainly.
CASES = {
    "dpo": (dpo.dpo_loss, {"beta": 0.3}, of_margin(dpo_by_hand)),
    "cdpo": (dpo.dpo_loss, {"beta": 0.7, "label_smoothing": 0.2}, of_margin(dpo_by_hand)),
    "robust": (
        dpo.robust_dpo_loss,
        {"beta": 0.7, "label_smoothing": 0.2},
        of_margin(robust_by_hand),
    ),
    "ipo": (dpo.ipo_loss, {"tau": 0.4}, of_margin(lambda h, tau: (h - 1 / (2 * tau)) ** 2)),
    "hinge": (
        dpo.hinge_loss,
        {"beta": 0.3},
        of_margin(lambda h, beta: np.maximum(0, 1 - beta * h)),
    ),
    "kto": (
        dpo.kto_loss,
        {"beta": 0.3, "kl": 0.8, "desirable_weight": 1.3, "undesirable_weight": 0.7},
        lambda pc, pr, rc, rr, **options: kto_by_hand(pc - rc, pr - rr, **options),
    ),
    "sigmoid_norm": (
        dpo.sigmoid_norm_loss,
        {"beta": 2.5},
        lambda pc, pr, rc, rr, n_c, n_r, beta: dpo_by_hand((pc - rc) / n_c - (pr - rr) / n_r, beta),
    ),
    "simpo": (
        dpo.simpo_loss,
        {"beta": 2.5, "gamma": 1.4},
        lambda pc, pr, n_c, n_r, beta, gamma: -np.log(sigma(beta * (pc / n_c - pr / n_r) - gamma)),
    ),
    "orpo": (
        dpo.orpo_loss,
        {"lambda_": 0.6},
        lambda pc, pr, n_c, n_r, lambda_: (
            -pc / n_c - lambda_ * np.log(sigma(np.log(odds(pc / n_c) / odds(pr / n_r))))
        ),
    ),
}
EVERY = pytest.mark.parametrize("name", CASES)


def arguments_of(loss, rng, size, scale=1.0):
    """Random arguments of a loss, by their names: log-probabilities and lengths."""
    names = [name for name in inspect.signature(loss).parameters if name in dpo.ARGUMENTS]
    return {
        name: rng.integers(1, 12, size)
        if "length" in name
        else -scale * rng.uniform(0.1, 2, size=size)
        for name in names
    }


def plain(loss):
    """Numbers that are valid arguments."""
    return {
        name: value[0] for name, value in arguments_of(loss, np.random.default_rng(3), 1).items()
    }


@EVERY
@pytest.mark.parametrize("nll_weight", [0.0, 0.4, np.linspace(0, 2, 50)], ids=["no", "one", "each"])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_value_and_slope_are_those_of_the_formula(name, nll_weight, scale):
    loss, options, formula = CASES[name]
    arguments = arguments_of(loss, np.random.default_rng(7), 50, scale)
    chosen, rejected = arguments.pop("policy_chosen"), arguments.pop("policy_rejected")

    def by_hand(chosen, rejected):
        return formula(chosen, rejected, *arguments.values(), **options) - nll_weight * chosen

    found = loss(chosen, rejected, **arguments, **options, nll_weight=nll_weight)
    assert_allclose(found, by_hand(chosen, rejected), rtol=1e-9, atol=1e-12)
    step = 1e-5 * scale
    numeric = [
        (by_hand(chosen + step, rejected) - by_hand(chosen - step, rejected)) / (2 * step),
        (by_hand(chosen, rejected + step) - by_hand(chosen, rejected - step)) / (2 * step),
    ]
    slopes = dpo.gradient(loss, chosen, rejected, **arguments, **options, nll_weight=nll_weight)
    smooth = np.ones(50, dtype=bool)
    if name == "hinge":  # no derivative at the kink
        h = dpo.log_ratio_margin(chosen, rejected, **arguments)
        smooth = np.abs(options["beta"] * h - 1) > 1e-3
    for exact, expected in zip(slopes, numeric):
        assert_allclose(exact[smooth], expected[smooth], rtol=1e-4, atol=1e-7)


def test_every_loss_has_its_case():
    losses = {getattr(dpo, name) for name in dpo.__all__ if name.endswith("_loss")}
    losses.remove(dpo.define_loss)
    assert losses == {loss for loss, _, _ in CASES.values()}


@given(pairs)
def test_margin(pair):
    pc, pr, rc, rr = pair
    assert_allclose(dpo.log_ratio_margin(*pair), (pc - rc) - (pr - rr), atol=1e-12)


@given(betas)
def test_dpo_is_bradley_terry_on_the_implicit_rewards(beta):
    policy, reference = np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.1, 0.3])
    strengths = np.exp(implicit_reward(policy, reference, beta))
    loss = dpo.dpo_loss(*np.log(policy[:2]), *np.log(reference[:2]), beta=beta)
    assert_allclose(np.exp(-loss), strengths[0] / (strengths[0] + strengths[1]), rtol=1e-9)


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


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("cdpo", "ipo")])
def test_losses_fall_as_the_margin_grows(name):
    loss, options, _ = CASES[name]
    rest = {key: 5 if "length" in key else -4.0 for key in plain(loss)}
    del rest["policy_chosen"], rest["policy_rejected"]
    logp = np.linspace(-9, -0.5, 40)
    assert np.all(np.diff(loss(logp, -4.0, **rest, **options)) <= 0)
    assert np.all(np.diff(loss(-4.0, logp, **rest, **options)) >= 0)
    slopes = dpo.gradient(loss, logp, -4.0, **rest, **options)
    assert np.all(slopes.chosen <= 0) and np.all(slopes.rejected >= 0)


def test_where_the_two_losses_with_a_target_rest():
    # cDPO at sigma(beta h) = 1 - eps, IPO at h = 1 / (2 tau).
    h = np.log(0.8 / 0.2) / 0.5
    slope = partial(dpo.gradient, dpo.dpo_loss, beta=0.5, label_smoothing=0.2)
    assert_allclose(slope(-1.0, -1.0 - h, -1.0, -1.0).chosen, 0, atol=1e-15)
    assert dpo.gradient(dpo.ipo_loss, -1.0, -3.0, -1.0, -1.0, tau=0.25).chosen == 0


def test_robust_dpo_is_not_bounded_below():
    far = dpo.robust_dpo_loss(0.0, [-1e2, -1e3, -1e4], 0.0, 0.0, beta=1.0, label_smoothing=0.1)
    assert np.all(np.diff(far) < 0) and far[-1] < -1e3


def test_extreme_margins():
    assert dpo.dpo_loss(-1e4, 0.0, 0.0, 0.0, beta=1.0) == 1e4
    assert dpo.dpo_loss(0.0, -1e4, 0.0, 0.0, beta=1.0) == 0
    assert dpo.gradient(dpo.dpo_loss, -1e4, 0.0, 0.0, 0.0, beta=1.0).chosen == -1


def test_no_gradient_at_the_kink_of_the_hinge():
    assert dpo.gradient(dpo.hinge_loss, -1.0, -3.0, -2.0, -2.0, beta=0.5).chosen == 0


def test_odds_of_nearly_certain_responses():
    expected = 1e-18 + 0.1 * np.logaddexp(0, (-2 - np.log(-np.expm1(-2))) - 18 * np.log(10))
    assert_allclose(dpo.orpo_loss(-1e-18, -2.0, 1, 1), expected, rtol=1e-9)


def test_weights_of_kto():
    # A weight of 0 leaves the other response alone.
    pair, options = (-1.0, -6.0, -4.0, -5.0), {"beta": 0.5, "kl": 0.2}
    only = {"desirable_weight": 0, "undesirable_weight": 1}
    assert_allclose(dpo.kto_loss(*pair, **options, **only), 1 / (1 + np.exp(0.5 * (0.2 + 1))))
    assert dpo.gradient(dpo.kto_loss, *pair, **options, **only).chosen == 0
    only = {"desirable_weight": 1, "undesirable_weight": 0}
    assert_allclose(dpo.kto_loss(*pair, **options, **only), 1 / (1 + np.exp(0.5 * (3 - 0.2))))
    assert dpo.gradient(dpo.kto_loss, *pair, **options, **only).rejected == 0


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
    for _ in range(5_000):
        log_policy = logits - np.log(np.exp(logits).sum())
        rows = [log_policy[winners], log_policy[losers]]
        rows += [np.log(reference)[winners], np.log(reference)[losers]]
        slopes = dpo.gradient(dpo.dpo_loss, *rows, beta=beta)
        # The normalisation cancels in the margin, so this is the gradient by the logits.
        step = np.bincount(winners, counts * slopes.chosen)
        step += np.bincount(losers, counts * slopes.rejected)
        logits = logits - 2 * step / beta**2
    policy = np.exp(logits) / np.exp(logits).sum()
    exact = optimal_policy(reference, fit(wins).log_strengths, beta)
    assert 0.5 * np.abs(policy - exact).sum() < 1e-6
    if beta == 1:
        assert_allclose(exact, np.array([6, 3, 10]) / 19, atol=1e-9)


def test_arrays_broadcast():
    assert dpo.dpo_loss(np.full((3, 1), -1.0), np.full(4, -2.0), -1.0, -2.0).shape == (3, 4)
    assert dpo.orpo_loss(np.full((3, 1), -1.0), np.full(4, -2.0), 2, 3).shape == (3, 4)


@pytest.mark.parametrize(
    "loss, defaults",
    [
        (dpo.dpo_loss, {"beta": 0.1, "label_smoothing": 0}),
        (dpo.robust_dpo_loss, {"beta": 0.1, "label_smoothing": 0}),
        (dpo.ipo_loss, {"tau": 0.1}),
        (dpo.hinge_loss, {"beta": 0.1}),
        (dpo.kto_loss, {"beta": 0.1, "kl": 0, "desirable_weight": 1, "undesirable_weight": 1}),
        (dpo.sigmoid_norm_loss, {"beta": 2}),
        (dpo.simpo_loss, {"beta": 2, "gamma": 1}),
        (dpo.orpo_loss, {"lambda_": 0.1}),
    ],
)
def test_the_defaults_are_the_documented_ones(loss, defaults):
    arguments, given = plain(loss), defaults | {"nll_weight": 0}
    assert loss(**arguments) == loss(**arguments, **given)
    assert dpo.gradient(loss, **arguments) == dpo.gradient(loss, **arguments, **given)


def test_your_own_loss():
    @dpo.define_loss
    def squared(policy_chosen, policy_rejected, *, scale=3.0):
        """A docstring."""
        gap = policy_chosen - policy_rejected
        return scale * gap**2, 2 * scale * gap, -2 * scale * gap

    assert squared(-1.0, -3.0) == 12 and squared.__doc__ == "A docstring."
    assert dpo.gradient(squared, -1.0, -3.0, scale=1.0, nll_weight=0.5) == (3.5, -4.0)
    with pytest.raises(ValueError, match=r"^policy_chosen is 1"):
        squared(1.0, -3.0)


# Bad input


@EVERY
@pytest.mark.parametrize("bad", ["0.5", "nan", "-inf"])
def test_bad_log_probabilities_are_refused(name, bad):
    loss = CASES[name][0]
    arguments = plain(loss)
    for argument in (name for name in arguments if "length" not in name):
        wrong = arguments | {argument: [-1.0, float(bad)]}
        with pytest.raises(ValueError, match=rf"^{argument}\[1\] is {bad}"):
            loss(**wrong)
        with pytest.raises(ValueError, match=rf"^{argument}\[1\] is {bad}"):
            dpo.gradient(loss, **wrong)


@EVERY
def test_shapes_that_do_not_broadcast_are_refused(name):
    loss = CASES[name][0]
    arguments = plain(loss) | {"policy_chosen": [-1.0, -2.0]}
    for argument in [*arguments, "nll_weight"][1:]:
        wrong = np.full(3, 1 if "length" in argument or "nll" in argument else -1.0)
        message = rf"^shapes do not broadcast: policy_chosen \(2,\).*{argument} \(3,\)"
        with pytest.raises(ValueError, match=message):
            loss(**arguments | {argument: wrong})


@pytest.mark.parametrize(
    "loss, options, message",
    [
        (dpo.dpo_loss, {"beta": 0}, "beta is 0"),
        (dpo.dpo_loss, {"beta": [1, 2]}, r"beta .*\(2,\)"),
        (dpo.dpo_loss, {"beta": "1"}, "beta is '1'"),
        (dpo.dpo_loss, {"label_smoothing": 0.5}, "label_smoothing is 0.5"),
        (dpo.dpo_loss, {"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        (dpo.robust_dpo_loss, {"label_smoothing": 0.5}, "label_smoothing is 0.5"),
        (dpo.robust_dpo_loss, {"beta": -1}, "beta is -1"),
        (dpo.ipo_loss, {"tau": 0}, "tau is 0"),
        (dpo.hinge_loss, {"beta": np.nan}, "beta is nan"),
        (dpo.sigmoid_norm_loss, {"beta": 0}, "beta is 0"),
        (dpo.simpo_loss, {"gamma": -1}, "gamma is -1"),
        (dpo.simpo_loss, {"beta": 0}, "beta is 0"),
        (dpo.orpo_loss, {"lambda_": -1}, "lambda_ is -1"),
        (dpo.kto_loss, {"beta": 0}, "beta is 0"),
        (dpo.kto_loss, {"kl": -0.1}, "kl is -0.1"),
        (dpo.kto_loss, {"desirable_weight": -1}, "desirable_weight is -1"),
        (dpo.kto_loss, {"undesirable_weight": np.inf}, "undesirable_weight is inf"),
        (dpo.dpo_loss, {"nll_weight": -1}, "nll_weight is -1"),
        (dpo.orpo_loss, {"nll_weight": np.nan}, "nll_weight is nan"),
    ],
)
def test_bad_options_are_refused(loss, options, message):
    for function in (loss, partial(dpo.gradient, loss)):
        with pytest.raises(ValueError, match="^" + message):
            function(**plain(loss), **options)


@pytest.mark.parametrize(
    "loss, pair, options",
    [
        (dpo.dpo_loss, (-20.0, -1.0), {"beta": 1e308}),
        (dpo.robust_dpo_loss, (-1.0, -20.0), {"beta": 1e308, "label_smoothing": 0.1}),
        (dpo.hinge_loss, (-20.0, -1.0), {"beta": 1e308}),
        (dpo.ipo_loss, (-20.0, -1.0), {"tau": 1e-320}),
        (dpo.sigmoid_norm_loss, (-20.0, -1.0), {"beta": 1e308}),
        (dpo.simpo_loss, (-200.0, -200.0), {"beta": 1e308}),
        (dpo.orpo_loss, (-20.0, -1.0), {"lambda_": 1e308}),
    ],
)
def test_what_does_not_fit_into_a_float_is_refused(loss, pair, options):
    arguments = plain(loss) | dict(zip(("policy_chosen", "policy_rejected"), pair))
    name, value = next(iter(options.items()))
    for function in (loss, partial(dpo.gradient, loss)):
        with pytest.raises(
            ValueError, match=rf"^\({loss.__name__} .*{name}={value}".replace("+", "[+]")
        ):
            function(**arguments, **options)
    with pytest.raises(ValueError, match="^the margin is -inf"):
        dpo.log_ratio_margin(-1.7e308, 0.0, 0.0, -1.7e308)


def test_kto_saturates():
    # Its two terms are bounded, however large beta is.
    found = dpo.kto_loss([-1.0, -9.0], [-9.0, -1.0], -5.0, -5.0, beta=1e308)
    assert found.tolist() == [0, 2]


@pytest.mark.parametrize("loss", [dpo.sigmoid_norm_loss, dpo.simpo_loss, dpo.orpo_loss])
def test_bad_lengths_are_refused(loss):
    for name, bad in [("chosen_length", 0), ("rejected_length", [3, -1])]:
        with pytest.raises(ValueError, match=rf"^{name}.* is {np.min(bad)}"):
            loss(**plain(loss) | {name: bad})


def test_certain_responses_have_no_odds():
    for function in (dpo.orpo_loss, partial(dpo.gradient, dpo.orpo_loss)):
        with pytest.raises(ValueError, match="^policy_chosen is 0"):
            function(0.0, -2.0, 2, 3)
        with pytest.raises(ValueError, match=r"^policy_rejected\[1\] is 0"):
            function(-2.0, [-1.0, 0.0], 2, 3)


@pytest.mark.parametrize("bad", ["ppo", len, None, [dpo.dpo_loss]])
def test_what_is_no_loss_is_refused(bad):
    with pytest.raises(ValueError, match="^loss is "):
        dpo.gradient(bad, -1.0, -1.0, -1.0, -1.0)


def test_a_loss_of_your_own_is_not_known_by_its_name():
    # A cell that is run twice defines two losses of one name.
    losses = []
    for factor in (1.0, 5.0):

        @dpo.define_loss
        def linear_loss(policy_chosen, policy_rejected, *, factor=factor):
            return factor * policy_chosen, factor + 0 * policy_chosen, 0 * policy_rejected

        losses.append(linear_loss)
    assert [dpo.gradient(loss, -1.0, -1.0).chosen for loss in losses] == [1, 5]
    with pytest.raises(ValueError, match="^loss is 'linear', expected one of dpo, hinge"):
        dpo.gradient("linear", -1.0, -1.0)


def test_what_is_no_formula_of_a_loss_is_refused():
    with pytest.raises(ValueError, match="^the arguments of formula is .*'policy_rejected'"):
        dpo.define_loss(lambda policy_chosen, rejected: policy_chosen)


def test_labels_that_differ_are_refused():
    class Column:
        """What the check asks of a pandas Series."""

        def __init__(self, values, labels):
            self.values, self.axes = np.array(values), [labels]

        def __array__(self, dtype=None, copy=None):
            return self.values

    chosen, rejected = Column([-1.0, -2.0], ["x", "y"]), Column([-1.0, -2.0], ["y", "x"])
    with pytest.raises(ValueError, match="^policy_chosen and policy_rejected have labels"):
        dpo.dpo_loss(chosen, rejected, -1.0, -1.0)


def test_the_largest_label_smoothing():
    assert dpo.dpo_loss(-1.0, -3.0, -1.0, -3.0, label_smoothing=0.499).round(6) == 0.693147
    with pytest.raises(ValueError, match="^label_smoothing is 0.5, expected a number < 0.5"):
        dpo.dpo_loss(-1.0, -3.0, -1.0, -3.0, label_smoothing=0.5)
