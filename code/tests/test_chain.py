import numpy as np
import pytest
from numpy.testing import assert_allclose

from kl2dpo.chain import (
    bigram_policy,
    bigram_probabilities,
    chain_divergence,
    count_features,
    expected_total,
    expected_visits,
    labelled_pairs,
    optimal_transitions,
    response_totals,
    smallest_beta,
    soft_values,
    win_rate,
)
from kl2dpo.datasets import forest
from kl2dpo.policy import train

# Three words; a response ends after each one with probability 0.85 or more.
SMALL = np.array(
    [[0.1, 0.5, 0.3, 0.1], [0.9, 0.05, 0.03, 0.02], [0.87, 0, 0.06, 0.07], [0.92, 0.03, 0.05, 0]]
)
RNG = np.random.default_rng(0)
PAY = RNG.normal(scale=0.5, size=(4, 4))


def enumerate_responses(chain, *tables, longest=12):
    """Probability of every response up to a length, and the sum of each table over it."""
    last, p, sums = np.zeros(1, int), np.ones(1), np.zeros((len(tables), 1))
    found = []
    for _ in range(longest + 1):
        p = p[:, None] * chain[last]
        sums = sums[..., None] + np.array([table[last] for table in tables])
        found.append((p[:, 0], sums[..., 0]))
        keep = p[:, 1:] > 0
        sums, p = sums[..., 1:][:, keep], p[:, 1:][keep]
        last = np.broadcast_to(np.arange(1, len(chain)), keep.shape)[keep]
    return np.concatenate([q for q, _ in found]), np.concatenate([s for _, s in found], axis=1)


def log_ratio(chain, reference):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(reference > 0, np.log(chain / reference), 0.0)


@pytest.mark.parametrize("beta", [2.0, 1.0, 0.6])
def test_the_optimum_is_that_of_brute_force(beta):
    best, ones = optimal_transitions(SMALL, PAY, beta), np.ones((4, 4))
    ratio = log_ratio(best, SMALL)
    p, (r, length, u) = enumerate_responses(SMALL, PAY, ones, ratio)
    weights = p * np.exp(r / beta)
    z = weights.sum()
    assert_allclose(soft_values(SMALL, PAY, beta)[0], beta * np.log(z), atol=1e-10)
    # Every response has the probability p e^{r / beta} / Z, so no policy at all is better.
    assert_allclose(p * np.exp(u), weights / z, atol=1e-10)
    q = weights / z
    assert_allclose(expected_total(best, PAY), q @ r, atol=1e-10)
    assert_allclose(expected_total(best, 1), q @ length, atol=1e-10)
    assert_allclose(chain_divergence(best, SMALL), q @ np.log(q / p), atol=1e-10)
    value = expected_total(best, PAY) - beta * chain_divergence(best, SMALL)
    assert_allclose(value, beta * np.log(z), atol=1e-10)


def test_a_worse_chain_loses_beta_times_its_divergence():
    best = optimal_transitions(SMALL, PAY, 0.7)
    other = optimal_transitions(SMALL, np.sin(7 * PAY), 1.0)
    value = [expected_total(p, PAY) - 0.7 * chain_divergence(p, SMALL) for p in (best, other)]
    assert_allclose(value[0] - value[1], 0.7 * chain_divergence(other, best), rtol=1e-12)


def test_token_by_token():
    values = soft_values(SMALL, PAY, 0.7)
    after = np.append(0.0, values[1:])
    ratio = log_ratio(optimal_transitions(SMALL, PAY, 0.7), SMALL)
    assert_allclose(0.7 * ratio[SMALL > 0], (PAY + after - values[:, None])[SMALL > 0], atol=1e-12)


def test_visits_against_powers():
    visits, at = np.eye(4)[0], np.eye(4)[0]
    for _ in range(60):
        at = np.append(0.0, (at @ SMALL)[1:])
        visits = visits + at
    assert_allclose(expected_visits(SMALL), visits, rtol=1e-12)


@pytest.mark.parametrize("p, pay", [(0.5, 0.5), (0.0765, 0.75), (0.99, 3.0)])
def test_one_word_bursts_where_the_formula_says(p, pay):
    chain, reward = [[0, 1], [1 - p, p]], [0, pay]
    burst = pay / np.log(1 / p)
    assert_allclose(smallest_beta(chain, reward), burst, rtol=1e-12)
    assert np.isfinite(soft_values(chain, reward, 1.001 * burst)).all()
    with pytest.raises(ValueError, match=f"no optimum at beta = .* a beta above {burst:.6g}$"):
        soft_values(chain, reward, 0.999 * burst)


def test_a_loop_of_two_words():
    # 1 -> 2 -> 1 with probability 0.3 * 0.2 pays 1 - 0.4.
    chain = [[0, 1, 0], [0.7, 0, 0.3], [0.8, 0.2, 0]]
    burst = smallest_beta(chain, [0, 1, -0.4])
    assert_allclose(burst, 0.6 / np.log(1 / 0.06), rtol=1e-12)
    assert smallest_beta(chain, [0, 1, -1.1]) == 0
    assert smallest_beta(chain, 0) == 0
    assert smallest_beta([[0.5, 0.5], [1, 0]], [5, 5]) == 0  # no loop at all


def test_counting_is_maximum_likelihood():
    corpus = forest()
    chain = bigram_probabilities(corpus.sentences, len(corpus.words), smoothing=0.1)
    policy = bigram_policy(chain, max_length=10)
    zeros, ones = np.zeros(len(corpus.sentences), int), np.ones(len(corpus.sentences))
    assert np.abs(policy.gradient(zeros, corpus.sentences, ones)).max() > 1
    policy = bigram_policy(bigram_probabilities(corpus.sentences, len(corpus.words)), 10)
    assert np.abs(policy.gradient(zeros, corpus.sentences, ones)).max() < 1e-10


def test_smoothing_by_hand():
    chain = bigram_probabilities([[1, 0, 0], [1, 1, 0]], 3, smoothing=0.5)
    assert_allclose(chain, [[0, 2.5 / 3, 0.5 / 3], [2.5 / 4.5, 1.5 / 4.5, 0.5 / 4.5], [1 / 3] * 3])
    assert bigram_probabilities([[0], [1]], 2, smoothing=1)[0].tolist() == [1 / 3, 2 / 3]


def test_features_add_up_to_rewards():
    rng = np.random.default_rng(1)
    responses = bigram_policy(SMALL, max_length=6).sample(np.zeros(500, int), rng)
    labels = rng.integers(0, 3, size=(4, 4))
    weights = rng.normal(size=3)
    by_hand = []
    for row in responses:
        total, last = 0.0, 0
        for token in row:
            total, last = total + weights[labels[last, token]], token
            if token == 0:
                break
        by_hand.append(total)
    assert_allclose(count_features(responses, labels) @ weights, by_hand)
    assert_allclose(response_totals(responses, weights[labels]), by_hand)


def test_labels_have_the_probabilities():
    first, second = np.repeat([[[1, 0]], [[2, 0]]], 40_000, axis=1)
    reward = np.zeros((4, 4))
    reward[0, 1], reward[0, 2] = 0.7, -0.5
    pairs = labelled_pairs(first, second, reward, np.random.default_rng(4))
    share = np.mean(pairs.chosen[:, 0] == 1)
    assert abs(share - 1 / (1 + np.exp(-1.2))) < 4 * 0.5 / np.sqrt(40_000)
    assert np.array_equal(pairs.chosen[:, 0] + pairs.rejected[:, 0], np.full(40_000, 3))


def test_a_policy_writes_as_its_chain():
    policy = bigram_policy(SMALL, max_length=60)
    assert_allclose(policy.probabilities()[0], SMALL, atol=1e-15)
    responses = policy.sample(np.zeros(50_000, int), np.random.default_rng(2))
    rewards = count_features(responses, np.arange(16).reshape(4, 4)) @ PAY.ravel()
    error = rewards.std() / np.sqrt(len(rewards))
    assert abs(rewards.mean() - expected_total(SMALL, PAY)) < 4 * error
    best = optimal_transitions(SMALL, PAY, 0.7)
    assert_allclose(bigram_policy(best, 60).kl_from(policy), chain_divergence(best, SMALL))


def test_win_rate_by_hand():
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 4, 30), rng.integers(0, 4, 40)
    la, lb = rng.integers(3, 7, 30), rng.integers(4, 8, 40)
    gap = a[:, None] - b
    won = (gap > 0) + 0.5 * (gap == 0)
    assert_allclose(win_rate(a, b), won.mean())
    assert_allclose(win_rate(a, b) + win_rate(b, a), 1)
    equal = la[:, None] == lb
    found = equal.any(axis=1)
    each = (won * equal).sum(axis=1)[found] / equal.sum(axis=1)[found]
    assert_allclose(win_rate(a, b, la, lb), each.mean())
    assert win_rate([0.1 + 0.2], [0.3]) == 0.5  # rounding makes no winner


def test_divergence_where_the_reference_is_zero():
    free = SMALL.copy()
    free[2] = [0.8, 0.1, 0.05, 0.05]
    assert chain_divergence(free, SMALL) == np.inf
    assert 0 < chain_divergence(SMALL, free) < 1
    assert chain_divergence(SMALL, SMALL) == 0
    never = np.array([[0, 1, 0], [1, 0, 0], [0.5, 0, 0.5]])  # token 2 is never reached
    other = np.array([[0, 1, 0], [1, 0, 0], [1, 0, 0]])
    assert chain_divergence(never, other) == 0


def test_a_reward_can_forbid():
    # ln of the probability that nothing forbidden is written: Z, where that costs too much.
    forbidden = np.eye(4)
    p, (seen,) = enumerate_responses(SMALL, forbidden)
    value = soft_values(SMALL, -1e3 * forbidden, 1.0)[0]
    assert_allclose(np.exp(value), p[seen == 0].sum(), atol=1e-10)


# DPO on the corpus of the course


CORPUS = forest()
N = len(CORPUS.words)
REFERENCE = bigram_policy(bigram_probabilities(CORPUS.sentences, N))
CHAIN = REFERENCE.probabilities()[0]
LIKES = {"kind": 1, "gentle": 1, "helps": 1, "shares": 1, "thanks": 1}
LIKES |= {"steals": -1, "bites": -1, "scares": -1, "angry": -1}
REWARD = np.array([LIKES.get(word, 0) - 0.25 * (word != ".") for word in CORPUS.words])
REWARD = np.tile(REWARD, (N, 1))


def pairs_of_the_reference(m, seed):
    rng = np.random.default_rng(seed)
    first, second = (REFERENCE.sample(np.zeros(m, int), rng) for _ in range(2))
    return labelled_pairs(first, second, REWARD, rng)


def law(beta, pairs):
    """tr(Sigma I^+) / (2 beta^2): m times the expected divergence from the optimum."""
    labels = np.zeros((N, N), int)
    labels[CHAIN > 0] = np.arange(np.sum(CHAIN > 0))
    differences = count_features(pairs.chosen, labels) - count_features(pairs.rejected, labels)
    gap = response_totals(pairs.chosen, REWARD) - response_totals(pairs.rejected, REWARD)
    weight = 1 / (2 + 2 * np.cosh(gap))  # p (1 - p)
    information = (differences.T * weight) @ differences / len(gap)
    best = bigram_policy(optimal_transitions(CHAIN, REWARD, beta))
    responses = best.sample(np.zeros(len(gap), int), np.random.default_rng(9))
    spread = np.cov(count_features(responses, labels).T)
    return np.trace(spread @ np.linalg.pinv(information, 1e-9, hermitian=True)) / (2 * beta**2)


def test_dpo_arrives_at_the_predicted_distance():
    m = 20_000
    wide = pairs_of_the_reference(m, 99)
    for beta in (2.0, 0.5, 0.25):
        best, predicted = optimal_transitions(CHAIN, REWARD, beta), law(beta, wide) / m
        for seed in range(3):
            pairs = pairs_of_the_reference(m, seed)
            trained = train(REFERENCE, pairs, beta=beta, learning_rate=0.2, steps=100).policy
            distance = chain_divergence(trained.probabilities()[0], best)
            assert 0.5 < distance / predicted < 2, (beta, seed, distance, predicted)


def test_what_breaks_with_smoothing_arrives_without():
    # The runs of chapter 17 (10,000 pairs, 100 steps), which end at 53 to 59 nats there.
    best = optimal_transitions(CHAIN, REWARD, 0.25)
    for seed in range(3):
        pairs = pairs_of_the_reference(10_000, seed)
        trained = train(REFERENCE, pairs, beta=0.25, learning_rate=0.2, steps=100).policy
        assert 1.0 < chain_divergence(trained.probabilities()[0], best) < 1.5


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: count_features([[1, 0]], np.zeros((2, 3))), "labels has shape"),
        (lambda: count_features([[1, 0]], [[0, -1], [0, 0]]), r"labels\[0, 1\] is -1.0"),
        (lambda: count_features([[0, 1]], np.eye(2)), r"responses\[0, 1\] is 1, expected 0 after"),
        (lambda: count_features([[2, 0]], np.eye(2)), r"responses\[0, 0\] is 2.0, expected a num"),
        (lambda: response_totals([[1, 0]], np.ones(2)), "table has shape"),
        (lambda: response_totals([[3, 0]], np.eye(2)), r"responses\[0, 0\] is 3.0"),
        (
            lambda: labelled_pairs([[1, 0]], [[1, 0, 0]], np.eye(2), RNG),
            r"the shape of second is \(1, 3\)",
        ),
        (lambda: bigram_probabilities([[1, 0]], 3), r"the count of token \[2\] is 0.0, expected"),
        (lambda: bigram_probabilities([[1, 0]], 1), "n_tokens is 1, expected an integer >= 2"),
        (lambda: bigram_probabilities([[1, 0]], 2, -1), "smoothing is -1.0"),
        (lambda: expected_visits(np.ones((2, 3)) / 3), "transitions has shape"),
        (
            lambda: expected_visits([[0, 1], [0, 1]]),
            r"the way of transitions to the end from token \[0\]",
        ),
        (lambda: expected_visits([[0, 1], [0.5, 0.6]]), "the sum of transitions"),
        (lambda: expected_total(SMALL, np.ones(3)), "table has shape"),
        (lambda: expected_total(SMALL, np.nan), "table is nan"),
        (lambda: chain_divergence(SMALL, [[0, 1], [1, 0]]), r"reference is \(2, 2\), expected"),
        (lambda: soft_values(SMALL, PAY, 0), "beta is 0.0, expected a number > 0"),
        (lambda: soft_values(SMALL, PAY, [1, 2]), "beta has shape"),
        (lambda: soft_values(SMALL, 1, 1e-4), "no optimum at beta = 0.0001: the sum over resp"),
        (lambda: soft_values([[0, 1], [1, 0]], 1, 1e-4), r"e\^\(reward / beta\)\[0, 0\] is inf"),
        (lambda: soft_values(SMALL, -1, 1e-4), r"the sum after token \[0\] is 0.0, expected a num"),
        (lambda: soft_values(SMALL, np.ones((4, 3)), 1), "reward has shape"),
        (lambda: smallest_beta(SMALL, [0, 0, 0, np.inf]), r"reward\[3\] is inf"),
        (lambda: bigram_policy(SMALL, 0), "max_length is 0"),
        (lambda: win_rate([1], [2], lengths=[1]), "lengths is alone"),
        (lambda: win_rate([1], [2], [1], [2]), "lengths is without an equal"),
        (lambda: win_rate([1], [2], [1, 2], [2]), "lengths has shape"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()
