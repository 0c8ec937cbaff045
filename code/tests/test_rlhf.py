import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose

from kl2dpo.kl import kl_divergence
from kl2dpo.rlhf import (
    implicit_reward,
    log_partition,
    optimal_policy,
    optimal_value,
    regularized_objective,
)

THIRDS = np.full(3, 1 / 3)
STRENGTHS = np.log([2, 1, 10 / 3])


def rewards(n=4):
    return hnp.arrays(float, n, elements=st.floats(-5, 5))


def distributions(n=4):
    weights = hnp.arrays(float, n, elements=st.floats(1e-3, 1))
    return weights.map(lambda w: w / w.sum())


betas = st.floats(0.05, 20)


def test_the_thread_exactly():
    assert_allclose(optimal_policy(THIRDS, STRENGTHS, 1), np.array([6, 3, 10]) / 19, rtol=1e-14)
    assert_allclose(np.exp(log_partition(THIRDS, STRENGTHS, 1)), 19 / 9, rtol=1e-14)
    assert_allclose(optimal_value(THIRDS, STRENGTHS, 1), np.log(19 / 9), rtol=1e-13)
    policy = optimal_policy([0.5, 0.3, 0.2], STRENGTHS, 0.5)
    assert_allclose(policy, [0.44226, 0.06634, 0.49140], atol=5e-6)


@given(distributions(), rewards(), betas)
def test_formulas(reference, reward, beta):
    weights = reference * np.exp(reward / beta)
    policy = optimal_policy(reference, reward, beta)
    assert_allclose(policy, weights / weights.sum(), rtol=1e-10)
    assert_allclose(log_partition(reference, reward, beta), np.log(weights.sum()), atol=1e-12)
    value = optimal_value(reference, reward, beta)
    assert_allclose(value, beta * np.log(weights.sum()), atol=1e-11)
    assert_allclose(regularized_objective(policy, reference, reward, beta), value, atol=1e-9)


@given(distributions(), distributions(), rewards(), betas)
def test_every_policy_misses_the_value_by_its_divergence(policy, reference, reward, beta):
    best = optimal_policy(reference, reward, beta)
    gap = optimal_value(reference, reward, beta) - regularized_objective(
        policy, reference, reward, beta
    )
    assert_allclose(gap, beta * kl_divergence(policy, best), atol=1e-9)
    at_reference = regularized_objective(reference, reference, reward, beta)
    assert_allclose(at_reference, reference @ reward, atol=1e-12)
    assert regularized_objective(best, reference, reward, beta) >= at_reference - 1e-10


@given(distributions(), rewards(), betas, st.floats(-5, 5))
def test_a_constant_reward_changes_nothing(reference, reward, beta, constant):
    shifted = optimal_policy(reference, reward + constant, beta)
    assert_allclose(shifted, optimal_policy(reference, reward, beta), rtol=1e-9)
    assert_allclose(
        optimal_value(reference, reward + constant, beta),
        optimal_value(reference, reward, beta) + constant,
        atol=1e-9,
    )


@given(distributions(), rewards(), betas)
def test_implicit_reward_inverts_the_optimum(reference, reward, beta):
    back = implicit_reward(optimal_policy(reference, reward, beta), reference, beta)
    constant = reward - back
    assert_allclose(constant, optimal_value(reference, reward, beta), atol=1e-8)


def test_limits_in_beta():
    reference, reward = [0.5, 0.3, 0.2], [1.0, 3.0, 2.0]
    assert_allclose(optimal_policy(reference, reward, 1e6), reference, atol=1e-6)
    assert_allclose(optimal_policy(reference, reward, 1e-3), [0, 1, 0], atol=1e-300)


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_large_rewards(scale):
    reward = scale * np.array([1, -1, 1])
    policy = optimal_policy([0.5, 0.3, 0.2], reward, 1)
    expected = [5 / 7, 0, 2 / 7] if scale > 0 else [0, 1, 0]
    assert_allclose(policy, expected, rtol=1e-11, atol=1e-300)
    value = optimal_value([0.5, 0.3, 0.2], reward, 1)
    assert_allclose(value, 1e4 + np.log(0.7 if scale > 0 else 0.3), rtol=1e-14)
    near = optimal_policy([0.5, 0.5], [1e4, 1e4 + np.log(3)], 1)
    assert_allclose(near, [0.25, 0.75], rtol=1e-11)


def test_the_largest_rewards():
    reward = [1.7e308, -1.7e308]
    assert optimal_policy([0.5, 0.5], reward, 1).tolist() == [1, 0]
    assert_allclose(optimal_value([0.5, 0.5], reward, 1), 1.7e308)


def test_large_rewards_of_several_prompts():
    partition = log_partition([[0.5, 0.5]] * 2, [[0, 0], [1e4, 1e4]], 1)
    assert_allclose(partition, [0, 1e4], atol=1e-9)
    assert_allclose(optimal_policy([0.3, 0.7], [1e8, 1e8], 1).sum(), 1, rtol=1e-15)


@pytest.mark.parametrize("beta", [1e3, 1e8, 1e15, 1e30])
def test_value_of_a_tight_leash(beta):
    reference, reward = np.array([0.5, 0.3, 0.2]), np.array([1.0, 3.0, 2.0])
    mean = reference @ reward
    expected = mean + reference @ (reward - mean) ** 2 / (2 * beta)
    assert_allclose(optimal_value(reference, reward, beta), expected, rtol=0.1 / beta**2 + 1e-15)


def test_value_of_a_tight_leash_beside_other_prompts():
    # Neither a loose leash nor large rewards elsewhere may cost this prompt its digits.
    reference, reward = np.array([0.5, 0.3, 0.2]), np.array([1.0, 3.0, 2.0])
    expected = 1.8 + 0.76 / 2e8
    loose = optimal_value(reference, reward, [1e8, 0.01])
    assert_allclose(loose, [expected, 3 + 0.01 * np.log(0.3)], rtol=1e-15)
    large = optimal_value(reference, [reward, 1e9 * reward], 1e8)
    assert_allclose(large[0], expected, rtol=1e-15)


def test_value_of_a_rare_response_with_an_enormous_reward():
    # Almost the whole reference lies far below the mean reward, which is 1e5.
    value = optimal_value([1e-20, 1.0], [1e25, 0.0], 1.0)
    assert_allclose(value, 1e25 - 20 * np.log(10), rtol=1e-15)


def test_what_the_reference_excludes():
    policy = optimal_policy([0.6, 0.0, 0.4], [0, 1e4, 1], 0.5)
    assert policy[1] == 0
    assert_allclose(policy[2] / policy[0], 4 / 6 * np.e**2)
    assert regularized_objective([0.8, 0.1, 0.1], [0.6, 0.0, 0.4], [0, 5, 1], 1) == -np.inf
    assert implicit_reward([0, 1], [0.5, 0.5], 1)[0] == -np.inf


def test_prompts_and_betas_broadcast():
    rng = np.random.default_rng(0)
    reference = rng.dirichlet(np.ones(4), size=3)
    reward, beta = rng.normal(size=(2, 1, 4)), np.array([0.5, 1.0, 2.0])
    policy = optimal_policy(reference, reward, beta)
    value = optimal_value(reference, reward, beta)
    partition = log_partition(reference, reward, beta)
    objective = regularized_objective(policy, reference, reward, beta)
    back = implicit_reward(policy, reference, beta)
    assert policy.shape == back.shape == (2, 3, 4)
    assert value.shape == partition.shape == objective.shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        one = reference[j], reward[i, 0], beta[j]
        assert_allclose(policy[i, j], optimal_policy(*one))
        assert_allclose(value[i, j], optimal_value(*one))
        assert_allclose(partition[i, j], log_partition(*one))
        assert_allclose(objective[i, j], regularized_objective(policy[i, j], *one))
        assert_allclose(back[i, j], implicit_reward(policy[i, j], reference[j], beta[j]))
    assert optimal_policy(THIRDS, STRENGTHS, [0.1, 1.0]).shape == (2, 3)


@pytest.mark.parametrize("function", [log_partition, optimal_policy, optimal_value])
@pytest.mark.parametrize(
    "arguments, message",
    [
        (([0.5, 0.6], [0, 1], 1), "the sum of reference is 1.1"),
        (([0.5, 0.5], [0, np.nan], 1), r"reward\[1\] is nan"),
        (([0.5, 0.5], [0, 1], 0), "beta is 0"),
        (([0.5, 0.5], [0, 1], [1, -1]), r"beta\[1\] is -1"),
        (([0.5, 0.5], 1, 1), "reference has 2, reward has 1"),
        (([0.5, 0.5], [0, 1, 2], 1), "reference has 2, reward has 3"),
        (([[0.5, 0.5]] * 2, [0, 1], [1, 1, 1]), r"shapes .*: .*reward \(\), beta \(3,\)"),
        (([0.5, 0.5], [0, 1e300], 1e-300), r"\(reward / beta\)\[1\] is inf"),
    ],
)
def test_bad_input_is_refused(function, arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        function(*arguments)
    with pytest.raises(ValueError, match=f"^{message}".replace("reference has 2, ", ".*")):
        if "/ beta" in message:
            function(*arguments)
        regularized_objective([0.5, 0.5], *arguments)


def test_bad_policies_are_refused():
    with pytest.raises(ValueError, match="^the sum of policy is"):
        regularized_objective([0.5, 0.6], [0.5, 0.5], [0, 1], 1)
    with pytest.raises(ValueError, match="^the sum of policy is"):
        implicit_reward([0.5, 0.6], [0.5, 0.5], 1)
    with pytest.raises(ValueError, match=r"^reference\[1\] is 0"):
        implicit_reward([1, 0], [1, 0], 1)
    with pytest.raises(ValueError, match="^the sum of reference is 1.1"):
        implicit_reward([0.5, 0.5], [0.5, 0.6], 1)
    with pytest.raises(ValueError, match="^shapes do not broadcast: policy .*beta"):
        implicit_reward([[0.5, 0.5]] * 2, [0.5, 0.5], [1, 1, 1])
    with pytest.raises(ValueError, match="^shapes do not broadcast: policy .*beta"):
        regularized_objective([[0.5, 0.5]] * 2, [0.5, 0.5], [0, 1], [1, 1, 1])
    with pytest.raises(ValueError, match="^beta is -1"):
        implicit_reward([1, 0], [0.5, 0.5], -1)
    with pytest.raises(ValueError, match="^policy has 2, reference has 3 outcomes"):
        implicit_reward([0.5, 0.5], THIRDS, 1)


def test_a_single_response_leaves_nothing_to_choose():
    assert optimal_policy([1.0], [3.0], 0.5) == [1]
    assert_allclose(log_partition([1.0], [3.0], 0.5), 6)
    assert optimal_value([1.0], [3.0], 0.5) == 3
    assert regularized_objective([1.0], [1.0], [3.0], 0.5) == 3
    assert implicit_reward([1.0], [1.0], 0.5) == [0]


def test_the_shapes_of_all_arguments_are_named():
    halves, three = [[0.5, 0.5]] * 2, [1, 1, 1]
    message = r"^shapes do not broadcast: policy {}, reference {}.*, beta \(3,\)$"
    for policy, reference in [(halves, halves[0]), (halves[0], halves), (halves, halves)]:
        shapes = [r"\(2,\)" if x is halves else r"\(\)" for x in (policy, reference)]
        with pytest.raises(ValueError, match=message.format(*shapes)):
            implicit_reward(policy, reference, three)
    with pytest.raises(ValueError, match=message.format(r"\(2,\)", r"\(\)")):
        regularized_objective(halves, halves[0], [0, 1], three)
